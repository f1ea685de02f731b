import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from anatozoo.errors import DataError
from anatozoo.fairness.audit import audit
from anatozoo.fairness.blocks import Heading, Paragraph, Table, to_html, to_markdown
from anatozoo.fairness.caveats import caveats
from anatozoo.fairness.draw import plot_agreement, plot_estimate, plot_gaps, plot_groups, plot_means
from anatozoo.fairness.findings import findings
from anatozoo.fairness.report import report_blocks, report_json, report_text, write_report
from anatozoo.fairness.tables import Scores
from anatozoo.fairness.wording import group_words, metric_words, number, p_value, ratio, span
from tests.support.fairness_data import confounded, scores

FAST = {"resamples": 200, "permutations": 199}
HEAD = {"command": "anatozoo audit <scores>.csv", "versions": {"anatozoo": "1"}, "commit": None}


def audited(table, groups=("sex",), **settings):
    return audit(Scores(table, len(table)), groups, name="scores.csv", **FAST, **settings)


def texts(found, kind):
    return [finding.text for finding in findings(found) if finding.kind == kind]


def test_a_gap_is_said_in_a_sentence():
    found = audited(scores(), metrics=["dice/heart"])
    (text,) = texts(found, "gap")
    assert text.startswith("Dice of the heart is worse in female patients than in male patients: 0.9")
    assert "corrected p 0.005; 60 and 60 patients)." in text
    interval = re.search(r"95 % interval (\d\.\d+) to (\d\.\d+)", text)
    assert float(interval[1]) < 0.05 < float(interval[2])


def test_a_distance_is_said_the_right_way_round():
    (text,) = texts(audited(scores(), metrics=["hd_mm/heart"]), "gap")
    assert text.startswith("Hausdorff distance of the heart (mm) is worse in female patients than in male")


def test_a_gap_that_a_control_explains():
    (text,) = texts(audited(confounded(), controls=["age_bin"]), "gap")
    assert "Between patients alike in age_bin no gap could be shown" in text


def test_a_gap_that_a_control_does_not_explain():
    (text,) = texts(audited(scores(), controls=["age_bin"], metrics=["dice/heart"]), "gap")
    assert "It remains between patients alike in age_bin" in text


def test_a_gap_that_only_shows_between_patients_who_are_alike():
    table = confounded()
    # Women are served better at every age by as much as their age costs them.
    female = table["sex"] == "F"
    table.loc[female, "dice/heart"] += (
        table.loc[~female, "dice/heart"].mean() - table.loc[female, "dice/heart"].mean()
    )
    table["dice/heart"] -= 0.05  # so that none is over 1
    (text,) = texts(audited(table, controls=["age_bin"]), "gap")
    assert text.startswith(
        "Dice of the heart is worse in male patients than in female patients between patients"
    )
    assert "without this adjustment 0.000" in text


def test_no_gap_says_how_large_it_may_be():
    (text,) = texts(audited(scores(gap=0.0), metrics=["dice/heart"]), "no gap")
    assert re.search(r"no gap by sex could be shown; one of up to 0\.0[01]\d remains possible", text)


def test_small_groups_are_named():
    table = scores()
    table.loc[table.index[:4], "view"] = "AP"
    table["view"] = table["view"].fillna("PA")
    found = audited(table, ["view"], metrics=["dice/heart"])
    assert texts(found, "few") == ["Too few to judge, fewer than 10: view AP (4)."]
    assert any("groups of fewer than 10" in text for text in caveats(found))


def test_one_group_only():
    table = scores().assign(view="PA")
    found = audited(table, ["sex", "view"], metrics=["dice/heart"])
    assert texts(found, "few") == ["Nothing can be said by view: all rows are view PA."]
    assert found.crossed is None
    with pytest.raises(DataError, match="nothing to compare: by view all are PA"):
        audited(table, ["view"])


def test_an_estimate_beside_the_truth():
    found = audited(scores(), ["sex", "age_bin"], estimated=["dice_rca/heart"], metrics=["dice/heart"])
    (estimate,) = found.estimates
    assert (estimate.true, estimate.n) == ("dice/heart", 120)
    assert estimate.mae == pytest.approx(0.1, abs=0.01)
    assert estimate.r > 0.6
    sexes = estimate.gaps[0]
    assert sexes.true == pytest.approx(0.05, abs=0.01)
    assert sexes.same_sign
    assert estimate.agreement.n == len(estimate.gaps) == 4
    assert "names the group that is served worse" in texts(found, "estimate")[0]
    assert any("does not see errors that the atlases share" in text for text in caveats(found))


def test_an_estimate_of_any_name_without_truth():
    table = scores().rename(columns={"dice_rca/heart": "guess"}).drop(columns=["dice/heart"])
    found = audited(table, metrics=["guess"], estimated=["guess"], higher=["guess"])
    assert found.estimates[0].true is None
    assert texts(found, "gap")[0].startswith("guess is worse in female patients")


def test_the_truth_lends_its_direction():
    table = scores().rename(columns={"dice_rca/heart": "guess"})
    found = audited(table, metrics=["dice/heart"], estimated=["dice/heart=guess"])
    assert found.frames[0].higher == {"dice/heart": True, "guess": True}


def judged(**more):
    """Scores with the estimate of the heart under the name that `anatozoo quality` gives it."""
    return scores().rename(columns={"dice_rca/heart": "dice_rca_mean/heart"}).assign(**more)


def test_measured_and_estimated_dice_are_paired_unasked():
    found = audited(judged(**{"dice_rca_mean/lungs": 0.9}), ["sex", "age_bin"])
    (estimate,) = found.estimates
    assert (estimate.true, estimate.estimated) == ("dice/heart", "dice_rca_mean/heart")
    asked = audited(judged(), ["sex", "age_bin"], estimated=["dice/heart=dice_rca_mean/heart"])
    assert asked.to_dict()["estimates"] == found.to_dict()["estimates"]


def test_another_estimate_that_is_asked_for_stands():
    table = judged(guess=scores()["dice/heart"] - 0.1)
    (estimate,) = audited(table, estimated=["dice/heart=guess"]).estimates
    assert (estimate.true, estimate.estimated) == ("dice/heart", "guess")


@pytest.mark.parametrize("metrics", [["dice/heart"], ["dice_rca_mean/heart"]])
def test_metrics_that_are_chosen_are_not_added_to(metrics):
    found = audited(judged(), metrics=metrics)
    assert (found.metrics, found.estimates) == (tuple(metrics), ())


def test_no_pair_without_an_image_that_has_both():
    table = judged()
    table.loc[:59, "dice/heart"] = None
    table.loc[60:, "dice_rca_mean/heart"] = None
    assert audited(table).estimates == ()


class Checker(HTMLParser):
    """Every tag is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_report_stands_alone(tmp_path):
    table = scores()
    table.loc[3, "sex"] = "<b>?"
    found = audited(table, ["sex", "age_bin"], controls=["age_bin"], estimated=["dice_rca/heart"])
    paths = write_report(tmp_path, found, HEAD)
    page = (tmp_path / "audit.html").read_text()
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    pictures = [attributes for tag, attributes in checker.seen if tag == "img"]
    assert len(pictures) == len([path for path in paths if path.suffix == ".png"]) == 7
    assert all(p["src"].startswith("data:image/png;base64,") and p["alt"] for p in pictures)
    assert not {"script", "link", "b"} & {tag for tag, _ in checker.seen}
    assert "http" not in page
    assert "&lt;scores&gt;" in page
    text = (tmp_path / "audit.md").read_text()
    for name in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (tmp_path / name).exists()
    value = json.loads((tmp_path / "audit.json").read_text())
    assert value["groupings"]["sex"]["left_out"] == [{"reason": "sex not understood ('<b>?')", "rows": 1}]
    assert value["groupings"]["sex"]["pairs"][0]["worse"] == "F"


def page_of(tmp_path, table, *groups, **settings):
    write_report(tmp_path, audited(table, groups or ("sex",), **settings), HEAD)
    return (tmp_path / "audit.html").read_text()


def test_tables_of_a_page_have_headers_that_say_what_they_head(tmp_path):
    page = page_of(tmp_path, scores(), "sex", "age_bin", controls=["age_bin"])
    tables = re.findall(r"<table>(.*?)</table>", page, re.DOTALL)
    assert len(tables) > 5
    for table in tables:
        head, body = table.split("<tbody>")
        columns = re.findall(r'<th scope="col"(?: class="text")?>(.*?)</th>', head)
        rows = re.findall(r"<tr>(.*?)</tr>", body)
        assert all(columns)
        assert rows
        assert all(row.startswith('<th scope="row"') for row in rows)
        assert {row.count("</th>") + row.count("</td>") for row in rows} == {len(columns)}


def test_numbers_are_set_to_the_right_and_words_to_the_left(tmp_path):
    page = page_of(tmp_path, scores(), metrics=["dice/heart"])
    assert '<td class="text">Dice of the heart</td>' in page
    cells = re.findall(r"<td>(.*?)</td>", page)
    assert cells
    assert not [cell for cell in cells if re.search("[A-Za-z]", cell.replace(" to ", ""))]


def test_a_page_has_colours_for_dark_screens_and_none_of_them_on_paper(tmp_path):
    style = re.search(r"<style>(.*?)</style>", page_of(tmp_path, scores()), re.DOTALL)[1]
    assert style.count("{") == style.count("}")
    used = set(re.findall(r"var\((--[\w-]+)\)", style))
    light, dark = (set(re.findall(r"(--[\w-]+):", part)) for part in style.split("@media", 2)[:2])
    assert used == light == dark
    # Print has no rule of its own for colours, so that of dark screens must not hold there.
    assert "@media screen and (prefers-color-scheme: dark)" in style


def test_json_and_markdown_say_the_same():
    found = audited(scores(), metrics=["dice/heart"])
    value = report_json(found, HEAD)
    pair = value["groupings"]["sex"]["pairs"][0]
    text = report_text(found, HEAD)
    assert f"{pair['gap']:+.3f}" in text
    assert all(finding["text"] in text for finding in value["findings"])
    assert value["metrics"] == {"dice/heart": "higher"}
    assert json.dumps(value, allow_nan=False)


def test_infinite_ratios_are_null_in_json_and_words_elsewhere():
    table = pd.DataFrame({"sex": ["M"] * 12 + ["F"] * 12, "dice": [1.0] * 12 + [0.9, 0.8] * 6})
    found = audited(table)
    assert report_json(found, HEAD)["groupings"]["sex"]["summary"]["dice"]["ser"] is None
    assert "∞" in report_text(found, HEAD)


def test_words():
    assert metric_words("hd95_px/lung_left") == "95 % Hausdorff distance of the left lung (px)"
    assert metric_words("dice_rca_mean/heart") == "Dice of the heart (rca mean)"
    assert metric_words("Dice RCA (Mean)") == "Dice RCA (Mean)"
    assert group_words("age_bin", "65+") == "patients aged 65+"
    assert group_words("view", "PA") == "view PA"
    assert group_words("sex × view", "M, PA") == "M, PA"
    assert number(-0.0001, "dice", sign=True) == "0.000"
    assert number(-0.05, "dice") == "−0.050"
    assert (number(float("nan"), "hd_mm"), number(2, "hd_mm")) == ("–", "2.00")
    assert span(float("nan"), 1.0, "dice") == "–"
    assert (p_value(0.0002), p_value(0.04)) == ("<0.001", "0.040")
    assert (ratio(float("inf")), ratio(1.5)) == ("∞", "1.50")


def test_pictures_have_a_panel_per_metric():
    found = audited(scores(), ["sex", "age_bin"], controls=["age_bin"], metrics=["dice/heart", "hd_mm/heart"])
    for plot in (plot_groups, plot_gaps, plot_means):
        figure = plot(found.frames[0])
        assert [ax.get_title(loc="left") for ax in figure.axes] == [
            "Dice of the heart",
            "Hausdorff distance of the heart (mm)",
        ]
    low, high = plot_gaps(found.frames[0]).axes[0].get_xlim()
    assert low == -high


def test_picture_of_an_estimate():
    frame = audited(scores(), estimated=["dice_rca/heart"]).frames[0]
    ax = plot_estimate(frame, "dice/heart", "dice_rca/heart").axes[0]
    assert ax.get_xlim() == ax.get_ylim()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["M (n 60)", "F (n 60)"]
    title = plot_agreement([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], "Gaps").axes[0].get_title()
    assert title == "Gaps: r = 1.000"


def test_blocks_name_what_is_left_out():
    table = scores()
    table.loc[0, "sex"] = None
    words = str(report_blocks(audited(table, metrics=["dice/heart"]), HEAD))
    assert "sex not stated" in words
    assert "1 of 120" in words


def test_names_from_tables_start_no_markup():
    table = Table(
        ("a|b",), (("<script>x</script>",), ("[x](javascript:y)",), ("two\nlines",), ("<18, [1, 2]",))
    )
    text = to_markdown([Heading("<b>", 1), Paragraph("say `x` <i>", code=True), table])
    assert "# \\<b>" in text
    assert "``say `x` <i>``" in text
    for words in ("a\\|b", "\\<script>x\\</script>", "[x]\\(javascript:y)", "two lines", "<18, [1, 2]"):
        assert words in text
    assert "<script>" not in to_html([table], {})
