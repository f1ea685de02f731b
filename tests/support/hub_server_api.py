"""The API of the Hub of the tests: repositories, cards, uploads, commits, tags, trees, users."""

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.hub_server_repos import BRANCH, Commit, Entry, Repo, make_entry

if TYPE_CHECKING:
    from tests.support.hub_server import _Handler

LICENSES = {
    "apache-2.0",
    "mit",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "other",
    "unknown",
}
PIPELINES = {"image-segmentation", "image-to-image", "image-classification", "keypoint-detection", "other"}
_REPO = r"(?P<repo>[^/]+/[^/]+)"


def answer_api(request: "_Handler") -> None:
    """Find the route of a request."""
    if request.has_wrong_token():
        return request.refuse(401, "", "Invalid credentials in Authorization header")
    for method, pattern, route in ROUTES:
        match = re.fullmatch(pattern, request.where)
        if match and method == request.command:
            return route(request, **match.groupdict())
    return request.refuse(404, "", f"no such route: {request.command} {request.where}")


def _writable(request: "_Handler", repo_id: str) -> Repo | None:
    repo, user = request.readable(repo_id), request.user()
    if repo is None:
        return None
    if user is None:
        request.refuse(401, "", "Unauthorized")
        return None
    if not (user.owns(repo_id) and user.can_write):
        request.refuse(403, "", "You don't have the rights to write to this repository")
        return None
    return repo


def whoami(request: "_Handler") -> None:
    user = request.user()
    if user is None:
        return request.refuse(401, "", "Unauthorized")
    orgs = [{"name": org, "type": "org"} for org in user.orgs]
    role = "write" if user.can_write else "read"
    return request.json(
        {"type": "user", "name": user.name, "orgs": orgs, "auth": {"accessToken": {"role": role}}}
    )


def create_repo(request: "_Handler") -> None:
    asked, user = json.loads(request.body), request.user()
    if user is None:
        return request.refuse(401, "", "Unauthorized")
    repo_id = f"{asked.get('organization') or user.name}/{asked['name']}"
    if not (user.owns(repo_id) and user.can_write):
        return request.refuse(403, "", "You don't have the rights to create a model under this namespace")
    answer = {"url": f"{request.server.url}/{repo_id}", "name": repo_id, "id": repo_id}
    with request.server.lock:
        if repo_id in request.server.repos:
            return request.json({**answer, "error": "You already created this model repo"}, 409)
        private = asked.get("visibility") == "private" or asked.get("private") is True
        repo = request.server.repos[repo_id] = Repo(repo_id, private=private)
        repo.put({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}, "initial commit")
    return request.json(answer)


def validate_yaml(request: "_Handler") -> None:
    parts = re.fullmatch(r"---\n(.*?)^---\n.*", json.loads(request.body)["content"], re.DOTALL | re.MULTILINE)
    errors: list[str] = []
    warnings: list[str] = []
    try:
        values = yaml.safe_load(parts[1]) if parts else None
    except yaml.YAMLError as error:
        values, errors = None, [f"not YAML: {error}"]
    if isinstance(values, dict):
        errors += _metadata_errors(values)
    elif not errors:
        warnings.append("empty or missing yaml metadata in repo card")
    answer = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    return request.json(answer, 400 if errors else 200)


def _metadata_errors(values: dict[str, Any]) -> list[str]:
    errors = []
    if "license" in values and values["license"] not in LICENSES:
        errors.append(f'"license" must be one of [{", ".join(sorted(LICENSES))}]')
    if values.get("license") == "other" and not values.get("license_name"):
        errors.append('"license_name" is required where license is other')
    if "pipeline_tag" in values and values["pipeline_tag"] not in PIPELINES:
        errors.append('"pipeline_tag" is not a known task')
    if not all(isinstance(tag, str) for tag in values.get("tags", [])):
        errors.append('"tags" must be a list of text')
    for model in values.get("model-index", []):
        for result in model["results"]:
            if not (result["task"]["type"] and result["dataset"]["type"] and result["dataset"]["name"]):
                errors.append('"model-index" lacks a type or a name')
            if not all(metric["type"] and "value" in metric for metric in result["metrics"]):
                errors.append('"model-index" lacks a metric')
    return errors


def preupload(request: "_Handler", repo: str, revision: str) -> None:
    found = _writable(request, repo)
    if found is None:
        return None
    here = _files_at(found, revision)
    files = []
    for asked in json.loads(request.body)["files"]:
        entry = here.get(asked["path"])
        mode = "lfs" if make_entry(asked["path"], b"").lfs or asked["size"] > 10**7 else "regular"
        oid = entry.upload_oid if entry else None
        files.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return request.json({"files": files})


def lfs_batch(request: "_Handler", repo: str) -> None:
    if _writable(request, repo) is None:
        return None
    objects = []
    for asked in json.loads(request.body)["objects"]:
        item: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in request.server.objects:
            verify = f"{request.server.url}/{repo}.git/info/lfs/verify"
            item["actions"] = {
                "upload": {"href": f"{request.server.storage_url}{asked['oid']}/upload?Signature=toy"},
                "verify": {"href": verify, "header": {}},
            }
        objects.append(item)
    return request.json({"transfer": "basic", "objects": objects})


def lfs_verify(request: "_Handler", repo: str) -> None:
    asked = json.loads(request.body)
    if len(request.server.objects.get(asked["oid"], b"")) != asked["size"]:
        return request.refuse(404, "", "no such object")
    return request.json({})


def commit(request: "_Handler", repo: str, revision: str) -> None:
    found = _writable(request, repo)
    if found is None:
        return None
    if revision != BRANCH:
        return request.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    lines = [json.loads(line) for line in request.body.splitlines() if line]
    header = next(line["value"] for line in lines if line["key"] == "header")
    with request.server.lock:
        if header.get("parentCommit") not in (None, found.head):
            return request.refuse(412, "", "A commit has happened since. Please refresh and try again.")
        files = found.files
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = Entry(base64.b64decode(value["content"]), lfs=False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in request.server.objects:
                    return request.refuse(400, "", f"LFS object {value['oid']} was never uploaded")
                files[value["path"]] = Entry(request.server.objects[value["oid"]], lfs=True)
            elif line["key"] == "deletedFile":
                files.pop(value["path"])
        made = found.commit(files, header["summary"])
    url = f"{request.server.url}/{repo}/commit/{made.oid}"
    return request.json({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})


def create_tag(request: "_Handler", repo: str, revision: str) -> None:
    found = _writable(request, repo)
    if found is None:
        return None
    tag = json.loads(request.body)["tag"]
    target = _commit_at(request, found, revision)
    if target is None:
        return None
    with request.server.lock:
        if tag in found.tags:
            return request.refuse(409, "", f"Tag reference exists already: {tag}")
        found.tags[tag] = target.oid
    return request.json({})


def refs(request: "_Handler", repo: str) -> None:
    found = request.readable(repo)
    if found is None:
        return None
    branches = [{"name": BRANCH, "ref": f"refs/heads/{BRANCH}", "targetCommit": found.head}]
    tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": oid} for n, oid in found.tags.items()]
    return request.json({"branches": branches, "converts": [], "tags": tags})


def tree(request: "_Handler", repo: str, revision: str) -> None:
    found = request.readable(repo, content=True)
    target = found and _commit_at(request, found, revision)
    if not target:
        return None
    return request.json([_tree_item(name, entry) for name, entry in target.files.items()])


def paths_info(request: "_Handler", repo: str, revision: str) -> None:
    from urllib.parse import parse_qs

    found = request.readable(repo, content=True)
    target = found and _commit_at(request, found, revision)
    if not target:
        return None
    asked = parse_qs(request.body.decode())["paths"]
    return request.json([_tree_item(n, e) for n, e in target.files.items() if n in asked])


def repo_info(request: "_Handler", repo: str, revision: str = BRANCH) -> None:
    found = request.readable(repo)
    target = found and _commit_at(request, found, revision)
    if not found or not target:
        return None
    siblings = [{"rfilename": name} for name in target.files]
    answer = {
        "id": repo,
        "modelId": repo,
        "sha": target.oid,
        "private": found.private,
        "gated": "manual" if found.gated else False,
        "tags": [],
        "downloads": 0,
        "siblings": siblings,
    }
    return request.json(answer)


def _tree_item(name: str, entry: Entry) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "file", "oid": entry.blob_id, "size": len(entry.content), "path": name}
    if entry.lfs:
        item["lfs"] = {"oid": entry.sha256, "size": len(entry.content), "pointerSize": len(entry.pointer)}
    return item


def _commit_at(request: "_Handler", repo: Repo, revision: str) -> Commit | None:
    found = repo.at(revision)
    if found is None:
        request.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return found


def _files_at(repo: Repo, revision: str) -> dict[str, Entry]:
    found = repo.at(revision)
    return found.files if found else {}


ROUTES: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/repos/create", create_repo),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("POST", rf"/api/models/{_REPO}/preupload/(?P<revision>[^/]+)", preupload),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", lfs_batch),
    ("POST", rf"/{_REPO}\.git/info/lfs/verify", lfs_verify),
    ("POST", rf"/api/models/{_REPO}/commit/(?P<revision>[^/]+)", commit),
    ("POST", rf"/api/models/{_REPO}/tag/(?P<revision>[^/]+)", create_tag),
    ("GET", rf"/api/models/{_REPO}/refs", refs),
    ("GET", rf"/api/models/{_REPO}/tree/(?P<revision>[^/]+)", tree),
    ("POST", rf"/api/models/{_REPO}/paths-info/(?P<revision>[^/]+)", paths_info),
    ("GET", rf"/api/models/{_REPO}/revision/(?P<revision>[^/]+)", repo_info),
    ("GET", rf"/api/models/{_REPO}", repo_info),
)
