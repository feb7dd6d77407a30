"""What was asked, as training takes it: the logs and votes of one moment, kept under the store.

A log grows by the minute. Training sees it as it was when it was last taken in (by `ragft run`, the
schedule, or the sensor once enough of it is new), so that what is fresh stays so in between. The
record is one document that the next one replaces; beside it stands the list of the questions that
people took back, as digests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragft_pipeline.digests import digest_of
from ragft_pipeline.questions.log import SUFFIXES, Log, question_id, read_log, redaction
from ragft_pipeline.questions.votes import votes_file
from ragft_pipeline.settings import LogGenerator, Settings
from ragft_pipeline.settings.questions import files_of
from ragft_pipeline.store import ArtifactStore

_TAKEN, _WITHDRAWN = "questions/log.json", "questions/withdrawn.json"
_NAMED = 5
Row = dict[str, Any]


@dataclass(frozen=True)
class Intake:
    """The questions taken in: `question_id`, `question`, `asked`; the share kept for judging."""

    questions: list[Row]
    keep: float = 0.0
    taken: float = 0.0

    @property
    def digest(self) -> str:
        """A digest of the questions and of what is kept, whenever they were taken in."""
        return digest_of([(row["question_id"], row["asked"]) for row in self.questions], self.keep)


def intake(store: ArtifactStore) -> Intake:
    """Return what was taken in last, without what was withdrawn since."""
    data = store.records.read(_TAKEN)
    if data is None:
        return Intake([])
    found, gone = json.loads(data), withdrawn(store)
    rows = [row for row in found["questions"] if row["question_id"] not in gone]
    return Intake(rows, found["keep"], found["taken"])


def take_in(
    settings: Settings,
    progress: Callable[[str], None] = lambda line: None,
    new_share: float = 0.0,
) -> Intake:
    """Take in the logs and votes that the settings name, and return what is in force now.

    Args:
        new_share: less than this of the questions being new leaves what was taken in before.

    Raises RagftError where a log cannot be read.
    """
    store = ArtifactStore(settings.store)
    before = intake(store)
    logs = settings.questions.logs
    if not logs:
        if before.questions:
            store.records.write(_TAKEN, _record(Intake([])))
        return Intake([])
    found = Log()
    for one in logs:
        hook = redaction(one.redact) if one.redact else None
        read_log(log_files(one, store), hook, found)
    gone, most = withdrawn(store), sum(one.max_questions for one in logs)
    order = sorted(found.questions, key=lambda name: (-found.questions[name].count, name))
    rows = [
        {
            "question_id": name,
            "question": found.questions[name].question,
            "asked": found.questions[name].count,
        }
        for name in order
        if name not in gone
    ][:most]
    now = Intake(sorted(rows, key=lambda row: row["question_id"]), logs[0].keep, time.time())
    _say(found, logs, progress)
    known = {row["question_id"] for row in before.questions}
    new = sum(row["question_id"] not in known for row in now.questions)
    lost = len(known) - (len(now.questions) - new)
    if now.digest != before.digest and max(new, lost) >= new_share * max(1, len(known)):
        store.records.write(_TAKEN, _record(now))
        progress(f"log: {len(now.questions)} questions taken in, {new} of them new")
        return now
    return before


def log_files(log: LogGenerator, store: ArtifactStore) -> list[Path]:
    """Return the files of a log; of one without a path, the votes that `ragft serve` took."""
    if log.path is not None:
        return files_of(log.path, "log", SUFFIXES)
    votes = votes_file(store)
    return [votes] if votes.is_file() else []


def log_stamps(settings: Settings) -> str:
    """Return a digest of the logs' names, sizes and times: a reason to look, not a proof."""
    store = ArtifactStore(settings.store)
    files = [file for log in settings.questions.logs for file in log_files(log, store)]
    stats = [(str(file), file.stat()) for file in files]
    return digest_of([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def withdrawn(store: ArtifactStore) -> set[str]:
    """Return the ids of the questions that people took back."""
    data = store.records.read(_WITHDRAWN)
    return set(json.loads(data)) if data is not None else set()


def withdraw(store: ArtifactStore, question: str) -> str:
    """Take a question back: it is in nothing that is made from now on; return its id."""
    name = question_id(question)
    store.records.write(_WITHDRAWN, json.dumps(sorted(withdrawn(store) | {name})).encode())
    found = intake(store)
    if store.records.read(_TAKEN) is not None:  # written again without it
        store.records.write(_TAKEN, _record(found))
    return name


def _record(found: Intake) -> bytes:
    return json.dumps(vars(found), ensure_ascii=False).encode()


def _say(found: Log, logs: Sequence[LogGenerator], progress: Callable[[str], None]) -> None:
    for line in found.left_out[:_NAMED]:
        progress(f"log: left out, {line}")
    if len(found.left_out) > _NAMED:
        progress(f"log: and {len(found.left_out) - _NAMED} more left out")
    if found.questions and not all(one.redact for one in logs):
        progress(
            f"log: {found.personal} of {len(found.questions)} questions look as if they held an "
            "address or a number of a person; questions are stored as they are and train models: "
            "see `redact` in ragft.yaml, and `ragft withdraw-question`"
        )
