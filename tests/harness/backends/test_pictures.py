"""Pictures in prompts: found, hashed, shown to servers and to models of images and text."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness.backends.scripted import ScriptedBackend
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.evaluation.open_model import open_model
from harness.evaluation.runner import rescore, score
from harness.store.runs import run_responses
from harness.store.store import Store
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from tests.harness.suite_builders import scripted, suite_yaml, write_jsonl
from tests.openai_server import serving
from tests.tiny_pictures import TEMPLATE, save_tiny_llava

COLORS = ("red", "blue", "green", "white")
PARTS = [
    {"type": "image", "image": "{{ picture }}"},
    {"type": "text", "text": "{{ question }}"},
]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llava(tmp_path_factory.mktemp("models") / "tiny-llava")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(Workspace.at(tmp_path / "home").ensure()) as store:
        yield store


def drawn(folder: Path, **task: Any) -> Suite:
    """One question about each of four pictures of one color."""
    for number, color in enumerate(COLORS):
        Image.new("RGB", (24, 20), color).save(folder / f"{number}.png")
    write_jsonl(
        folder / "shown.jsonl",
        [
            {"id": color, "picture": f"{number}.png", "question": "What color?", "answer": color}
            for number, color in enumerate(COLORS)
        ],
    )
    asked = {
        "data": "shown.jsonl",
        "prompt": {"messages": [{"role": "user", "content": PARTS}]},
        "generate": {"max_new_tokens": 6},
        "reference": "{{ answer }}",
        "metrics": ["exact_match"],
        **task,
    }
    return load_suite(suite_yaml(folder, tasks={"shapes": asked}))


def refused(
    folder: Path, rows: list[dict[str, Any]], messages: Any = "{{ messages }}"
) -> UserError:
    write_jsonl(folder / "rows.jsonl", rows)
    with pytest.raises(UserError) as found:
        drawn(folder, data="rows.jsonl", prompt={"messages": "{{ messages }}"}, reference=None)
    return found.value


def test_a_picture_is_known_by_its_bytes_and_not_by_its_place(tmp_path: Path) -> None:
    here, there = tmp_path / "a", tmp_path / "b"
    here.mkdir()
    there.mkdir()
    first, second = drawn(here), drawn(there)
    assert first.digest == second.digest
    sample = first.task("shapes").samples[0]
    turn = sample.prompt[0]
    assert turn["content"] == "What color?"
    assert turn["parts"][0] == {
        "type": "image",
        "kind": "image/png",
        "sha256": sample.pictures[0].sha256,
    }
    assert "picture" not in str(turn["parts"])
    Image.new("RGB", (24, 20), "black").save(there / "2.png")
    assert load_suite(second.path).digest != first.digest


def test_openais_parts_and_data_urls_are_read_too(tmp_path: Path) -> None:
    drawn(tmp_path)
    body = base64.b64encode((tmp_path / "0.png").read_bytes()).decode()
    shapes = [
        {"type": "image", "image": "0.png"},
        {"type": "image_url", "image_url": {"url": "0.png"}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{body}"}},
        {"type": "input_image", "image_url": "0.png"},
    ]
    text = {"type": "text", "text": "What?"}
    rows = [
        {"id": str(n), "messages": [{"role": "user", "content": [one, text]}]}
        for n, one in enumerate(shapes)
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    suite = drawn(
        tmp_path, data="rows.jsonl", prompt={"messages": "{{ messages }}"}, reference="red"
    )
    assert len({sample.pictures[0].sha256 for sample in suite.task("shapes").samples}) == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere.png", "there is no picture 'nowhere.png'"),
        ("shown.jsonl", "is no picture: known are PNG"),
        ("https://example.org/a.png", "is not here: copy it beside the data"),
        ("data:image/png;base64,????", "a URL data:image/png;base64"),
        ("", "named by its file"),
    ],
)
def test_what_is_no_picture_is_said_with_its_line(tmp_path: Path, source: str, said: str) -> None:
    drawn(tmp_path)
    good, bad = (
        {"id": name, "messages": [{"role": "user", "content": [{"type": "image", "image": one}]}]}
        for name, one in (("good", "0.png"), ("bad", source))
    )
    error = refused(tmp_path, [good, bad])
    assert said in error.what
    assert (error.file, error.line) == (str(tmp_path / "rows.jsonl"), 2)
    assert error.field is not None
    assert "messages" in error.field


def test_a_server_is_sent_the_bytes_and_answers_are_cached(tmp_path: Path, store: Store) -> None:
    suite = drawn(tmp_path)
    urls = {
        f"data:image/png;base64,{base64.b64encode(one.read()).decode()}": sample.id
        for sample in suite.task("shapes").samples
        for one in sample.pictures
    }
    # What it is asked, data URL and all, stands in the prompt that this server's model reads.
    with serving(ScriptedBackend(urls), context=10_000) as server:
        candidate = open_model(f"openai:{server.url}#tiny", store.workspace, store)
        run = score(candidate, suite, store).run
        asked = [body["messages"] for path, body in server.asked if "messages" in body]
        assert score(candidate, suite, store).reused == len(COLORS)
    parts = [turns[0]["content"] for turns in asked if isinstance(turns[0]["content"], list)]
    assert sorted(urls[one[0]["image_url"]["url"]] for one in parts) == sorted(COLORS)
    assert {one[1]["text"] for one in parts} == {"What color?"}
    assert {one.sample_id: one.text for one in run_responses(store, run.id)} == {
        color: color for color in COLORS
    }


def test_a_model_of_images_and_text_sees(tmp_path: Path, store: Store, llava: Path) -> None:
    suite = drawn(tmp_path)
    candidate = open_model(str(llava), store.workspace, store)
    run = score(candidate, suite, store).run
    found = {one.sample_id: one for one in run_responses(store, run.id)}
    assert [one.error for one in found.values()] == [None] * 4
    assert len({one.text for one in found.values()}) > 1
    # The same bytes, read from files again, say the same: and nothing is asked twice.
    assert score(candidate, suite, store).reused == 4
    assert rescore(run, suite, store).run.id == run.id


def test_sampled_answers_hang_on_their_seed_alone(
    tmp_path: Path, store: Store, llava: Path
) -> None:
    suite = drawn(tmp_path, generate={"max_new_tokens": 6, "temperature": 1.0, "responses": 3})
    candidate = open_model(str(llava), store.workspace, store)
    texts = []
    for home in ("one", "two"):
        with Store(Workspace.at(tmp_path / home).ensure()) as other:
            run = score(candidate, suite, other).run
            texts.append([one.text for one in run_responses(other, run.id)])
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 4


def test_a_model_that_reads_text_alone_is_refused_before_it_is_loaded(
    tmp_path: Path, store: Store, tiny_llama: Path, llava: Path
) -> None:
    suite = drawn(tmp_path)
    candidate = open_model(str(tiny_llama), store.workspace, store)
    with pytest.raises(UserError, match=r"reads text alone.*without vision") as found:
        score(candidate, suite, store)
    assert found.value.file == str(tmp_path / "shown.jsonl")
    assert found.value.field == "tasks.shapes.prompt"
    with pytest.raises(UserError, match="reads text alone"):
        score(scripted({})[0], suite, store)
    bare = shutil.copytree(llava, tmp_path / "bare")
    (bare / "processor_config.json").unlink()
    with pytest.raises(UserError, match="no preprocessor_config"):
        score(open_model(str(bare), store.workspace, store), suite, store)


def test_a_template_that_writes_no_pictures_is_refused(tmp_path: Path, store: Store) -> None:
    blind = TEMPLATE.replace("{{ '<image>' }}", "")
    folder = save_tiny_llava(tmp_path / "blind", template=blind)
    with pytest.raises(UserError, match="writes nothing of the pictures"):
        score(open_model(str(folder), store.workspace, store), drawn(tmp_path), store)


def test_given_answers_to_pictures_and_raw_prompts_are_refused(
    tmp_path: Path, store: Store, llava: Path
) -> None:
    suite = drawn(tmp_path, metrics=["reference_nll"])
    with pytest.raises(UserError, match="can't be read yet"):
        score(open_model(str(llava), store.workspace, store), suite, store)
    raw = {"messages": [{"role": "user", "content": PARTS}], "raw": True}
    with pytest.raises(UserError, match="no pictures"):
        drawn(tmp_path, prompt=raw)


def test_a_picture_that_changed_is_an_error_of_its_answer(
    tmp_path: Path, store: Store, llava: Path
) -> None:
    suite = drawn(tmp_path)
    Image.new("RGB", (24, 20), "black").save(tmp_path / "0.png")
    run = score(open_model(str(llava), store.workspace, store), suite, store).run
    errors = [one.error for one in run_responses(store, run.id) if one.error]
    assert len(errors) == 1
    assert "has changed" in errors[0]
