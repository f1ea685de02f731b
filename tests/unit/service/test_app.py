"""The service's addresses with something simple that computes: bodies, limits, refusals, descriptions."""

import json
import logging
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from anatozoo.service.app import make_app
from anatozoo.service.desk import Desk
from anatozoo.service.edge import Edge
from anatozoo.service.models import Answer
from anatozoo.service.process import Died, TooLong
from anatozoo.service.settings import Settings

TOKEN = "t0ken-of-sixteen-characters"
URL = "/predict/chest"
PNG = {"content-type": "image/png"}


class Echo:
    """Answers with what it was asked."""

    def __init__(self) -> None:
        common = {"version": "1.0.0", "kind": "labels", "organs": ["heart"], "formats": ["json", "overlay"]}
        self.models = [
            {"name": "chest", "takes": "image", "axes": 2, **common},
            {"name": "heart", "takes": "volume", "axes": 3, **common},
        ]
        self.asked: list[tuple[dict[str, Any], bytes]] = []
        self.error: Exception | None = None
        self.restarts, self.ready = 0, True
        self.may_answer = threading.Event()
        self.may_answer.set()

    def ask(self, message: dict[str, Any], content: Any) -> Answer:
        self.asked.append((message, bytes(content)))
        self.may_answer.wait(20)
        if self.error is not None:
            raise self.error
        return Answer(200, "upload.json", json.dumps(message | {"bytes": len(content)}).encode())

    def restart(self) -> None:
        self.restarts += 1

    def interrupt(self) -> None:
        self.may_answer.set()

    def close(self) -> None:
        pass


class Service:
    """An application with its parts, and a client."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(("chest", "heart"), **settings)
        self.echo = Echo()
        self.desk = Desk(self.echo, self.settings.queue)
        about = [{"license": "<b>free</b>", "intended_use": "Research."}, {}]
        app = Edge(make_app(self.desk, self.settings, about), self.desk)
        self.client = TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def make() -> Iterator[Any]:
    made = []

    def make(**settings: Any) -> Service:
        made.append(Service(**settings))
        return made[-1]

    yield make
    for service in made:
        service.desk.close()


@pytest.fixture
def service(make: Any) -> Service:
    return make(max_mb=0.1)


def sentence(answer: Any, status: int) -> str:
    """The sentence of an error with this status."""
    assert answer.status_code == status, answer.text
    words = answer.json()["error"]
    assert words.endswith("."), words
    return words


def test_files_arrive_whole_whatever_carries_them(service: Service) -> None:
    files = [bytes(range(256)) * 40, b"\r\n--x\r\n", b"one more"]
    form = service.client.post(URL, files={"file": ("Doe^Jane.dcm", files[0])})
    assert (form.status_code, form.json()["ends"]) == (200, [len(files[0])])
    assert service.echo.asked[-1][1] == files[0]

    service.client.post(URL, content=files[0], headers={"content-type": "application/dicom"})
    assert service.echo.asked[-1][1] == files[0]
    service.client.post(URL, content=files[0])  # without a type
    assert service.echo.asked[-1][1] == files[0]

    several = [("file", (f"{number}.dcm", file)) for number, file in enumerate(files)]
    found = service.client.post("/predict/heart", files=several).json()
    assert found["ends"] == [len(files[0]), len(files[0]) + 7, len(files[0]) + 15]
    assert service.echo.asked[-1][1] == b"".join(files)

    stow = b"".join(
        b"--xyz\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files[:2]
    )
    kind = 'multipart/related; type="application/dicom"; boundary=xyz'
    answer = service.client.post(
        "/predict/heart",
        content=stow + b"--xyz--\r\n",
        headers={"content-type": kind},
    )
    assert len(answer.json()["ends"]) == 2


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        ("image/png", b"", 422, "holds no file"),
        ("text/plain", b"hello", 415, "none of a file's"),
        ("application/x-www-form-urlencoded", b"file=1", 415, "curl -F"),
        ("multipart/form-data", b"--x\r\n", 400, "names no boundary"),
        ("multipart/form-data; boundary=x", b"", 400, "within a part"),
        ("multipart/form-data; boundary=x", b"garbage", 400, "damaged"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc',
            400,
            "within a part",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="picture"\r\n\r\nabc\r\n--x--\r\n',
            422,
            "'picture'",
        ),
        ("image/png", b"a" * 200_000, 413, "larger than 0.1 MB"),
    ],
)
def test_bodies_that_hold_no_file_are_refused(
    service: Service, kind: str, body: bytes, status: int, words: str
) -> None:
    answer = service.client.post(URL, content=body, headers={"content-type": kind})
    assert words in sentence(answer, status)
    assert not service.echo.asked
    assert service.client.get("/health").json()["counts"]["refused"] == 1


def test_a_body_of_unknown_length_is_refused_while_it_arrives(service: Service) -> None:
    answer = service.client.post(URL, content=(b"a" * 10_000 for _ in range(100)), headers=PNG)
    assert "larger than" in sentence(answer, 413)
    assert not service.echo.asked


def test_a_two_dimensional_model_takes_one_file(service: Service) -> None:
    several = [("file", (f"{number}.png", b"x")) for number in range(3)]
    assert "one image at a time, not 3" in sentence(service.client.post(URL, files=several), 422)
    assert "no model 'spine'" in sentence(service.client.post("/predict/spine", content=b"x"), 404)


def test_without_the_token_nothing_is_told(make: Any) -> None:
    client = make(token=TOKEN).client
    for header in (None, "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe4"):
        headers = {} if header is None else {"authorization": header.encode("latin-1")}
        for path in ("/models", "/docs", "/", "/openapi.json"):
            answer = client.get(path, headers=headers)
            assert "Bearer TOKEN" in sentence(answer, 401)
        answer = client.post(URL, content=b"x", headers=headers)
        assert sentence(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    right = {"authorization": f"Bearer {TOKEN}"}
    assert client.post(URL, content=b"x", headers=right).status_code == 200
    assert client.get("/models", headers=right).status_code == 200
    assert client.get("/health").status_code == 200
    assert TOKEN not in client.get("/docs", headers=right).text


@pytest.mark.parametrize(
    ("query", "accept", "form"),
    [
        ("", "*/*", "json"),
        ("", "image/png", "overlay"),
        ("", "image/png;q=0.9, application/json", "overlay"),
        ("?format=overlay", "application/json", "overlay"),
        ("", "text/html", "json"),
    ],
)
def test_the_format_comes_from_the_address_or_what_is_accepted(
    service: Service, query: str, accept: str, form: str
) -> None:
    answer = service.client.post(URL + query, content=b"x", headers={"accept": accept})
    assert answer.json()["form"] == form


def test_formats_and_options_that_do_not_exist_are_refused(service: Service) -> None:
    client = service.client
    assert "no 'dicomseg'" in sentence(client.post(f"{URL}?format=dicomseg", content=b"x"), 422)
    assert "json, overlay" in sentence(
        client.post(URL, content=b"x", headers={"accept": "application/dicom"}), 422
    )
    for bad in ("0", "-1", "nan", "inf", "a", "1,2,3,4", ""):
        assert "spacing_mm" in sentence(client.post(f"{URL}?spacing_mm={bad}", content=b"x"), 422)
    assert "invert" in sentence(client.post(f"{URL}?invert=perhaps", content=b"x"), 422)
    assert not service.echo.asked
    found = client.post(f"{URL}?spacing_mm=0.2,0.3&invert=true&allow_any_modality=1", content=b"x").json()
    assert found["options"] == {"spacing_mm": [0.2, 0.3], "invert": True, "allow_any_modality": True}


def test_a_full_queue_says_when_to_come_back(make: Any) -> None:
    service = make(queue=2)
    service.echo.may_answer.clear()
    answers: list[Any] = []

    def post() -> None:
        answers.append(service.client.post(URL, content=b"x"))

    threads = [threading.Thread(target=post) for _ in range(2)]
    for thread in threads:
        thread.start()
    while service.desk.in_hand < 2:
        pass
    refused = service.client.post(URL, content=b"x")
    assert "2 requests are in hand" in sentence(refused, 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert service.client.get("/health").json()["in_hand"] == 2
    service.echo.may_answer.set()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert service.client.get("/health").json()["counts"] == {"answered": 2, "refused": 1, "failed": 0}


def test_a_service_that_stops_takes_nothing_more(service: Service) -> None:
    service.echo.ready = False
    assert service.client.get("/health").json()["status"] == "loading"
    assert service.client.post(URL, content=b"x").status_code == 200
    service.desk.stopping = True
    assert "shutting down" in sentence(service.client.post(URL, content=b"x"), 503)
    assert service.client.get("/health").status_code == 503


@pytest.mark.parametrize(("error", "status"), [(TooLong("too long."), 504), (Died("it died."), 500)])
def test_the_next_request_is_answered_after_one_that_failed(
    service: Service, error: Exception, status: int
) -> None:
    service.echo.error = error
    assert sentence(service.client.post(URL, content=b"x"), status) == str(error)
    service.echo.error = None
    assert service.client.post(URL, content=b"x").status_code == 200
    assert service.echo.restarts == 1


def test_the_log_names_nothing_of_a_request(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        service.client.post(f"{URL}?patient=Doe", files={"file": ("Doe^Jane.dcm", b"x")})
        service.client.post("/predict/Doe", content=b"x")
        service.client.get("/Doe")
        service.client.get("/health?Doe")
        service.echo.error = ValueError("in Doe's file")
        assert "its log says where" in sentence(service.client.post(URL, content=b"x"), 500)
    lines = [record.getMessage() for record in caplog.records if record.name == "anatozoo.service"]
    assert lines[0].startswith("POST /predict/chest: 200, ")
    assert lines[1].startswith("POST /predict/unknown model: 404, ")
    assert lines[2].startswith("GET unknown address: 404, ")
    assert any(line.startswith("ValueError (") for line in lines)
    assert not [line for line in lines if "Doe" in line]


def test_answers_are_not_kept_by_browsers(service: Service) -> None:
    answer = service.client.post(URL, content=b"x")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_needs_nothing_of_another_machine(make: Any) -> None:
    page = make().client.get("/docs")
    assert page.text == make().client.get("/").text
    links = re.findall(r'(?:src|href|action)="([^"]*)"', page.text)
    assert links
    assert not [link for link in links if "//" in link]
    assert "<script" not in page.text
    assert "http" not in page.text.replace("http://ADDRESS", "")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "&lt;b&gt;free&lt;/b&gt;" in page.text
    for words in ("/predict/{model}", "spacing_mm", "429", "overlay", "heart"):
        assert words in page.text
    assert (
        "<form"
        not in make(token=TOKEN).client.get("/docs", headers={"authorization": f"Bearer {TOKEN}"}).text
    )


def test_models_and_openapi_describe_what_is_there(service: Service) -> None:
    chest, heart = service.client.get("/models").json()
    assert (chest["name"], chest["intended_use"], heart["axes"]) == ("chest", "Research.", 3)
    found = service.client.get("/openapi.json").json()
    assert set(found["paths"]) == {"/predict/{model}", "/models", "/health"}
    post = found["paths"]["/predict/{model}"]["post"]
    assert "multipart/form-data" in post["requestBody"]["content"]
    assert {"401", "408", "413", "422", "429", "504"} <= set(post["responses"])
    assert sentence(service.client.get("/nothing"), 404)
    assert sentence(service.client.get(URL), 405)
