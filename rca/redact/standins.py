"""What stands for each private thing: the same in all results that one `StandIns` redacts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from rca.redact import keys, shapes, words
from rca.redact.found import Found


class StandIns:
    """Replaces texts. It learns first what is private (`learn`); the order of all that is numbered depends on that alone."""

    def __init__(self) -> None:
        self._hosts: dict[str, str] = {}
        self._files: dict[str, str] = {}
        self._roots: dict[str, str] = {}
        self._sides: dict[tuple[str, str], str] = {}
        self._models: dict[str, str] = {}
        self._commands: set[str] = set()
        self._users: set[str] = set()
        self._versions: set[str] = set()
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()
        self._texts: dict[str, str] = {}
        self._literals: list[tuple[str, str]] = []
        self._words: re.Pattern[str] | None = None
        self._in_names: re.Pattern[str] | None = None

    def learn(self, found: Found) -> None:
        """Give everything that is private its stand-in; what has one keeps it."""
        self._number_hosts(found.hosts)
        for path, label in found.roots.items():
            self._roots.setdefault(path, label)
        self._sides |= found.sides
        _number_files(found.files, self._files)
        for whole, path in found.wholes.items():
            self._files.setdefault(whole, self._files[path])
        models = sorted(found.models - self._models.keys())
        for model in models:
            alone = len(models) == 1 and not self._models
            self._models[model] = words.MODEL if alone else f"<model {len(self._models) + 1}>"
        self._commands |= found.commands
        self._users |= found.users
        self._versions |= found.versions
        self._words = _any_of([*(host for host in self._hosts if not words.is_word(host)), *self._users])
        self._in_names = _any_of(host for host in self._hosts if _is_unmistakable(host))
        self._name_all(found.names - self._names.keys())
        self._literals = self._quotable()
        self._texts.clear()

    def name(self, text: str) -> str:
        """Return the name of a function, metric or device; a number tells it from others that a path alone told apart."""
        known = self._names.get(text)
        return self._name(text, self._plain_name(text)) if known is None else known

    def _name(self, text: str, plain: str) -> str:
        made, number = plain, 1
        while made != text and made in self._taken:
            number += 1
            made = f"{plain} ({number})"
        self._taken.add(made)
        self._names[text] = made
        return made

    def text(self, text: str) -> str:
        """Return any other text: prose, a line of a log."""
        if (known := self._texts.get(text)) is None:
            known = self._texts[text] = self._sentence(text)
        return known

    def path(self, path: PurePath, side: str = "") -> PurePath:
        """Return what stands for a capture, by its side; of any other path nothing but that it is one."""
        text = str(path)
        made = self._place(text, side) or words.PATH
        return path if text == made else type(path)(made)

    def _place(self, text: str, side: str) -> str | None:
        return self._sides.get((side, text)) or self._files.get(text) or self._roots.get(text)

    def value(self, key: str, text: str, side: str = "") -> str:
        """Return a text that stands behind a key, on a side of a comparison."""
        kind = keys.kind_of(key)
        if not text or words.is_placeholder(text) or (kind == "version" and "/" not in text):
            return text
        if kind == "file" or (key == keys.NAME and text in self._files):
            return self._place(text, side) or self.text(text)
        if kind == "name":
            return self.name(text)
        if kind == "host":
            return self._hosted(text)
        return self._whole(kind, text) or self._models.get(text) or self.text(text)

    def _whole(self, kind: keys.Kind, text: str) -> str | None:
        """Return what stands for all of a text, None where a part of it may stay."""
        if words.is_switch(text):
            return None
        if kind == "command":
            return words.COMMAND
        if kind == "path" and not words.is_made(text):
            return self._place(text, "") or words.PATH
        return words.USER if kind == "user" and not words.is_word(text) else None

    def _hosted(self, text: str) -> str:
        """Redact a list of hosts, addresses or URLs."""
        if (shown := self.text(text)) != text:
            return shown
        return "".join(self._with_port(part) if words.is_host(part) else part for part in re.split(r"([\s,;]+)", text))

    def _with_port(self, place: str) -> str:
        host = shapes.without_port(place)
        return self._host(host) + place[len(host) :]

    def _host(self, host: str) -> str:
        if words.is_placeholder(host):
            return host
        if words.is_anywhere(host):
            return words.LOCAL if words.is_local(host) else words.HOST
        bare = _bare(host)
        return self._hosts.get(bare) or self._hosts.get(bare.partition(".")[0]) or self._new_host(bare)

    def _new_host(self, host: str) -> str:
        number = len(set(self._hosts.values())) + 1
        self._hosts[host] = words.HOST if number == 1 else f"<host {number}>"
        return self._hosts[host]

    def _number_hosts(self, hosts: Iterable[str]) -> None:
        """Number hosts, short names first: ``gpu17.cluster.example`` is ``gpu17``. One that is alone needs no number."""
        first = not self._hosts
        new = {bare for host in hosts if (bare := _bare(host)) not in self._hosts and not words.is_placeholder(host)}
        for host in sorted(new, key=lambda host: (host.count("."), host)):
            short = "" if re.fullmatch(r"[\d.]+", host) else host.partition(".")[0]
            self._hosts[host] = self._hosts.get(short) or f"<host {len(set(self._hosts.values())) + 1}>"
        if first and len(set(self._hosts.values())) == 1:
            self._hosts = dict.fromkeys(self._hosts, words.HOST)

    def _name_all(self, texts: Iterable[str]) -> None:
        """Name what needs no change first, so that it keeps its name."""
        plain = {text: self._plain_name(text) for text in sorted(texts)}
        same = [text for text, made in plain.items() if text == made]
        self._names |= zip(same, same, strict=True)
        self._taken.update(same)
        for text, made in plain.items():
            if text != made:
                self._name(text, made)

    def _plain_name(self, text: str) -> str:
        made = shapes.name(text, self._host)
        return self._in_names.sub(lambda match: self._host(match[0]), made) if self._in_names else made

    def _quotable(self) -> list[tuple[str, str]]:
        """List what is replaced wherever it is quoted, the longest first."""
        paths = {
            path: label for path, label in {**self._roots, **self._files}.items() if path != label and _is_telling(path)
        }
        known = {**dict.fromkeys(self._commands, words.COMMAND), **paths, **self._models, **_odd(self._names)}
        return sorted(known.items(), key=lambda pair: (-len(pair[0]), pair[0]))

    def _sentence(self, text: str) -> str:
        if words.is_placeholder(text):
            return text
        kept = {version: f"\ue000{i}\ue001" for i, version in enumerate(sorted(self._versions)) if version in text}
        for version, mark in kept.items():
            text = text.replace(version, mark)
        for old, new in self._literals:
            if old in text:
                text = self._without(text, old, new)
        text = shapes.sentence(text, self._host)
        if self._words:
            text = self._words.sub(lambda m: self._host(m[0]) if _bare(m[0]) in self._hosts else words.USER, text)
        for version, mark in kept.items():
            text = text.replace(mark, version)
        return text

    def _without(self, text: str, old: str, new: str) -> str:
        """Replace a name or path, with what lies below it: that is another path."""

        def stand_in(match: re.Match[str]) -> str:
            below = (match["below"] or "").strip("/\\")
            return self._files.get(below, words.PATH) if below else new

        return re.sub(rf"(?<![\w/.~-]){re.escape(old)}{_BELOW}", stand_in, text)


_BELOW = r"(?P<below>[/\\][^\s\"'`<>|)\]},;:]*)?(?!\w)"


def _odd(names: Mapping[str, str]) -> dict[str, str]:
    """Return the names whose stand-ins a sentence would not get by shape."""
    return {old: new for old, new in names.items() if old != new and (" " in old.partition("(")[0] or new.endswith(")"))}


def _any_of(single: Iterable[str]) -> re.Pattern[str] | None:
    choice = "|".join(re.escape(word) for word in sorted(set(single), key=lambda word: (-len(word), word)))
    return re.compile(rf"(?<![A-Za-z0-9<])(?:{choice})(?![A-Za-z0-9])", re.IGNORECASE) if choice else None


def _bare(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _is_unmistakable(host: str) -> bool:
    """Tell a host's name that is no part of a function's name by chance."""
    return not words.is_word(host) and re.search(r"[-.]|^(?=.{5}).*\d", host) is not None


def _is_telling(path: str) -> bool:
    """Tell a path that no sentence holds by chance."""
    return not words.is_word(path) and re.search(r"[/\\.\d_-]", path) is not None


def _number_files(found: Iterable[str], files: dict[str, str]) -> None:
    """Name files by number and format; those whose names say nothing keep them."""
    taken = {*files.values(), *(path for path in found if _NUMBERED.fullmatch(path))}
    number = 0
    for path in found:
        if path in files:
            continue
        if words.is_made(path) or _NUMBERED.fullmatch(path):
            files[path] = path
            continue
        number += 1
        while (label := f"file {number}{words.extension(path)}") in taken:
            number += 1
        taken.add(label)
        files[path] = label


_NUMBERED = re.compile(r"file \d+(?:\.\w[\w-]*){0,2}|<file>")
