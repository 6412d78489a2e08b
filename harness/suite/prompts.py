"""What a task asks: one system and one user text, or a conversation, with shots and tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, Protocol, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from harness.core.digests import digest_of
from harness.core.strict_model import StrictModel
from harness.core.types import Picture, PromptOptions, Row
from harness.data.messages import ROLES, Message, MessagesError, read_messages, read_tools
from harness.data.rows import row_id

OURS = frozenset(
    {
        *("conversation", "messages", "tools", "chat_template", "tokenize", "now"),
        *("add_generation_prompt", "continue_final_message", "return_tensors", "return_dict"),
    }
)
"""Arguments of a chat template that are not for `template:`: other keys set them, or nobody."""


class ShotsModel(StrictModel):
    """Solved examples before the question: `n` rows of the file `from`, each with its answer.

    `seed` draws them, the same ones for every sample; without it they are the file's first. A row
    that is the sample itself is passed over. `as` says whether they are turns of the conversation
    or part of the question's text; `answer` is a template, the task's `reference` by default.
    """

    model_config = ConfigDict(populate_by_name=True)

    source: str = Field(alias="from")
    n: int = Field(ge=1, le=128)
    seed: int | None = None
    form: Literal["turns", "text"] | None = Field(None, alias="as")
    answer: str | None = None


class TextPart(StrictModel):
    """A part of a turn that is text, a template."""

    type: Literal["text"]
    text: str


class ImagePart(StrictModel):
    """A part of a turn that is a picture: a template of its file (relative to the data) or of a
    `data:` URL.
    """

    type: Literal["image"]
    image: str


class TurnModel(StrictModel):
    """A turn of a conversation; its content is a template, or parts of text and pictures."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | tuple[TextPart | ImagePart, ...]


class SuitePrompt(StrictModel):
    """What the model is asked. All texts are templates over the row's fields.

    Either `user` (with `system` before it) or `messages`: a template of the whole conversation, or
    a list of turns and of such templates. Or `turns` (with `system` before them): a template of a
    list of what is said, one after the other, each `{"user": …}` or `{"tool": …}`, which the model
    answers in between. A system text that a row leaves empty is no turn: models
    have a default for that, or no room for one. `system: ""` itself is an empty turn.
    """

    system: str | None = None
    user: str | None = None
    messages: str | tuple[str | TurnModel, ...] | None = None
    turns: str | None = None
    shots: ShotsModel | None = None
    tools: str | None = None
    template: dict[str, Any] = Field(default_factory=dict)
    prefill: str | None = None
    raw: bool = False
    now: date | datetime | None = None

    @field_validator("messages", mode="before")
    @classmethod
    def _turns(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, str | list | tuple):
            raise ValueError('messages are a list of turns, or a template: "{{ messages }}"')
        for number, turn in enumerate([] if value is None or isinstance(value, str) else value, 1):
            if isinstance(turn, Mapping) and turn.get("role") not in ROLES:
                known = ", ".join(ROLES)
                raise ValueError(f"turn {number} has no role of these: {known}")
            if isinstance(turn, Mapping) and not isinstance(turn.get("content"), str | list):
                raise ValueError(f"turn {number} has no `content` that is a text or parts")
        return value

    @field_validator("template")
    @classmethod
    def _not_ours(cls, template: dict[str, Any]) -> dict[str, Any]:
        ours = next((name for name in template if name in OURS), None)
        if ours is not None:
            raise ValueError(f"{ours!r} is no argument to be given here: it is set by what asks")
        return template

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if sum(one is not None for one in (self.user, self.messages, self.turns)) != 1:
            raise ValueError("a prompt has either a `user` text or `messages` (or `turns`)")
        if self.turns is not None and (self.raw or self.prefill is not None or self.shots):
            raise ValueError("`turns` are asked as they are: without `shots`, `prefill` or `raw`")
        if self.messages is not None and self.system is not None:
            raise ValueError("`system` goes with `user`: write it as the first of the `messages`")
        if self.messages is not None and self.shots is not None:
            raise ValueError("`shots` go with `user`: `messages` hold their own examples")
        if self.raw and (self.tools is not None or self.template):
            raise ValueError(
                "with `raw` no chat template is used, so it takes no tools or template"
            )
        if self.raw and self.shots is not None and self.shots.form == "turns":
            raise ValueError("with `raw` there are no turns: write the shots `as: text`")
        return self

    @property
    def protocol(self) -> dict[str, Any]:
        """What two runs must share of it. The shots themselves are part of the rendered prompts."""
        said: dict[str, Any] = {"system": self.system, "user": self.user}
        dumped = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        if "shots" in dumped:
            dumped["shots"] = {k: v for k, v in dumped["shots"].items() if k != "from"}
        return {**said, **dumped}

    def templates(self) -> Iterable[tuple[tuple[str | int, ...], str]]:
        """(keys that lead to it, text) of each template whose result is a text."""
        for name in ("user", "system", "prefill"):
            if (text := getattr(self, name)) is not None:
                yield (name,), text
        if self.shots is not None and self.shots.answer is not None:
            yield ("shots", "answer"), self.shots.answer
        for index, turn in enumerate(self.messages if isinstance(self.messages, tuple) else ()):
            if isinstance(turn, TurnModel):
                place = ("messages", index, "content")
                if isinstance(turn.content, str):
                    yield place, turn.content
                    continue
                for number, part in enumerate(turn.content):
                    text = part.text if isinstance(part, TextPart) else part.image
                    yield (*place, number, part.type), text


class Filling(Protocol):
    """Fills the templates of one row; `keys` are those of the prompt that lead to a template."""

    def text(self, source: str, *keys: str | int) -> str: ...

    def value(self, source: str, *keys: str | int) -> Any: ...

    def picture(self, source: Any) -> Picture: ...

    def wrong(self, what: str, *keys: str | int, hint: str | None = None) -> Exception:
        """The error that says what is wrong with this row."""
        ...


@dataclass(frozen=True)
class Shot:
    """A solved example: its question and answer, and what tells whether it is the sample."""

    row: str
    question: str
    answer: str


@dataclass(frozen=True)
class Shots:
    """All examples of a task, in the order in which they are taken."""

    model: ShotsModel
    pool: Sequence[Shot] = field(repr=False)

    def of(self, row: Row, question: str) -> list[Shot]:
        """Those before a question: the first of the pool, without the sample itself."""
        own = row_id(row)
        others = (one for one in self.pool if one.row != own and one.question != question)
        return [shot for shot, _ in zip(others, range(self.model.n), strict=False)]


def shots_of(model: ShotsModel, pool: Sequence[Shot]) -> Shots:
    """The examples of a task in the order in which they are taken: as they come, or drawn."""
    if model.seed is not None:
        pool = sorted(pool, key=lambda shot: digest_of(["shots", model.seed, shot.row]))
    return Shots(model, pool)


def asked(
    prompt: SuitePrompt, row: Row, filling: Filling, shots: Shots | None
) -> tuple[tuple[Message, ...], PromptOptions, str | None]:
    """A row's messages, how they are asked, and the last question without examples. Raises what
    `filling.wrong` makes.
    """
    question: str | None = None
    then: tuple[Message, ...] = ()
    if prompt.user is not None:
        question = filling.text(prompt.user, "user")
        messages = _question(prompt, row, question, filling, shots)
    elif prompt.turns is not None:
        first, then = _played(prompt.turns, filling)
        messages = (*_system(prompt, filling), first)
        question = first["content"]
    else:
        messages = _conversation(prompt, filling)
        if prompt.raw and any("parts" in turn for turn in messages):
            raise filling.wrong("with `raw` there are no turns, and so no pictures", "raw")
        question = question_of(messages)
    try:
        tools = () if prompt.tools is None else read_tools(filling.value(prompt.tools, "tools"))
    except MessagesError as error:
        raise filling.wrong(str(error), "tools", hint="as OpenAI writes functions") from None
    options = PromptOptions(
        tools=tools,
        template=dict(prompt.template),
        prefill="" if prompt.prefill is None else filling.text(prompt.prefill, "prefill"),
        raw=prompt.raw,
        now=None if prompt.now is None else prompt.now.isoformat(),
        then=then,
    )
    return messages, options, question


def _question(
    prompt: SuitePrompt, row: Row, user: str, filling: Filling, shots: Shots | None
) -> tuple[Message, ...]:
    turns: list[Message] = _system(prompt, filling)
    if shots is not None:
        taken = shots.of(row, user)
        if len(taken) < shots.model.n:
            raise filling.wrong(
                f"{shots.model.n} shots are wanted, and beside this sample there are {len(taken)}",
                *("shots", "n"),
                hint="give the file of shots more rows, or lower n",
            )
        if (shots.model.form or ("text" if prompt.raw else "turns")) == "text":
            user = "\n\n".join([*(_solved(shot) for shot in taken), user])
        else:
            for shot in taken:
                turns.append({"role": "user", "content": shot.question})
                turns.append({"role": "assistant", "content": shot.answer})
    return (*turns, {"role": "user", "content": user})


def _system(prompt: SuitePrompt, filling: Filling) -> list[Message]:
    if prompt.system is None:
        return []
    system = filling.text(prompt.system, "system")
    said = system.strip() or not prompt.system.strip()
    return [{"role": "system", "content": system}] if said else []


def _played(source: str, filling: Filling) -> tuple[Message, tuple[Message, ...]]:
    """What is said first, and what is said after each answer but the last."""
    value = filling.value(source, "turns")
    listed = value if isinstance(value, list | tuple) else []
    said: list[Message] = []
    for number, turn in enumerate(listed, start=1):
        roles = [role for role in ("user", "tool") if isinstance(turn, Mapping) and role in turn]
        if len(roles) != 1 or not isinstance(turn[roles[0]], str):
            raise filling.wrong(
                f"turn {number} says nothing",
                "turns",
                hint='each is {"user": "…"} or {"tool": "…"}, with an `expect` beside it',
            )
        said.append({"role": roles[0], "content": turn[roles[0]]})
    if not said:
        raise filling.wrong("there are no turns", "turns", hint='write [{"user": "…"}, …]')
    return said[0], tuple(said[1:])


def _solved(shot: Shot) -> str:
    space = "" if shot.question[-1:].isspace() or shot.answer[:1].isspace() else " "
    return f"{shot.question}{space}{shot.answer}"


def _conversation(prompt: SuitePrompt, filling: Filling) -> tuple[Message, ...]:
    turns: list[Any] = []
    if isinstance(prompt.messages, str):
        turns = _expanded(prompt.messages, filling, "messages")
    for index, turn in enumerate(prompt.messages if isinstance(prompt.messages, tuple) else ()):
        if isinstance(turn, str):
            turns += _expanded(turn, filling, "messages", index)
        else:
            turns.append({"role": turn.role, "content": _content(turn, filling, index)})
    try:
        messages = read_messages(turns, filling.picture)
    except MessagesError as error:
        raise filling.wrong(str(error), "messages") from None
    if messages[-1]["role"] == "assistant":
        raise filling.wrong(
            "the conversation ends with the assistant's own turn, so nothing is asked",
            "messages",
            hint='cut it off, as in `messages: "{{ messages[:-1] }}"` with `reference: '
            '"{{ messages[-1].content }}"`, or use `prefill` for how an answer begins',
        )
    return messages


def _content(turn: TurnModel, filling: Filling, index: int) -> Any:
    """A turn's content, its templates filled."""
    place = ("messages", index, "content")
    if isinstance(turn.content, str):
        return filling.text(turn.content, *place)
    return [
        {"type": "text", "text": filling.text(part.text, *place, number, "text")}
        if isinstance(part, TextPart)
        else {"type": "image", "image": filling.text(part.image, *place, number, "image")}
        for number, part in enumerate(turn.content)
    ]


def _expanded(source: str, filling: Filling, *keys: str | int) -> list[Any]:
    value: Any = filling.value(source, *keys)
    try:
        return [] if value in (None, []) else list(read_messages(value, filling.picture))
    except MessagesError as error:
        raise filling.wrong(str(error), *keys) from None


def question_of(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """The last text that a user says; None where no turn is a user's."""
    return next((m["content"] for m in reversed(messages) if m.get("role") == "user"), None)
