"""What is private in a text by its shape alone: paths, addresses, host names behind known keys, command lines.

Knows no results: `rca.redact.standins` adds the names that were found in one. What is only like a path is left alone: units
(``GB/s``), ratios, ids of public models (``Qwen/Qwen3-32B``), C++ and Python names, operators of ONNX.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath

from rca.redact.words import (
    COMMAND,
    CONTENTS,
    DATA,
    FILE,
    HOST,
    LOCAL,
    PATH,
    USER,
    is_host,
    is_local,
    is_made,
    is_public,
    is_word,
)

Label = Callable[[str], str]
"""Gives a host its stand-in."""

_LETTER = (
    r"(?:[^\s/\\\"'`<>|:;,()\[\]{}=*?!…\x00-\x1f]|\\[ ]|=(?=\w)|[:,](?=[\w.:-]+/)|\((?=[\w.-]*\)[\w.-]*/)|\)(?=[\w.-]*/))"
)
_PART = rf"{_LETTER}+"
"""Of a path: what may also end a path is of it where the path goes on."""

_END = r"[^\s\"'`<>|)\]},;…]"

_KNOWN_ROOT = r"(?:home|Users|root|tmp|var|mnt|opt|srv|usr|etc|data|nfs|scratch|workspace|private|Volumes|media|dev|run)"
_RATE = r"(?:s|ms|us|µs|sec|min|hour|day|token|tokens|step|cycle|call|request|requests)\b"

_POSIX = re.compile(
    rf"""(?:(?<=[\s"'`=([{{,;:<|])|(?<=\s>)|^)
    (?: (?:/{_PART}){{2,}}/?
      | /{_KNOWN_ROOT}\b/?
      | (?:(?<=["'`=:])|^)/(?!{_RATE}){_PART}/?
      | (?<!<)/(?!{_RATE}){_LETTER}{{3,}}/? )""",
    re.VERBOSE,
)
_QUOTED = re.compile(r"""(?<![\w])(["'`])((?:~?/|[A-Za-z]:\\)(?:(?!\1)[^\n])*)\1""")
_SYSTEM = re.compile(r"/proc(?:/[\w.-]+)*/?|/sys/fs/cgroup/?|/dev/(?:null|kfd|dri|nvidia\d*)")
"""The kernel's own, the same on all machines: reports advise to look there."""

_WINDOWS = re.compile(rf"(?<![A-Za-z0-9])(?:[A-Za-z]:[\\/]|\\\\(?=[\w.-]+\\))(?:[^\\/:*?\"<>|\n]+[\\/])*(?:{_PART})?")
_ESCAPED = re.compile(r"(?<!\w)(?:\\/[\w.@+-]+){2,}")
"""As some write JSON."""

_CACHES = r"(?:vllm|sglang|triton|flashinfer|huggingface|hub|torch_compile_cache|torch_extensions)"
_HOME = re.compile(rf"(?<![\w~/.])(?!~/\.cache(?:/{_CACHES})*/?(?![\w./]))~(?:/|[A-Za-z_][\w.-]*/){_END}*")
_RELATIVE = re.compile(rf"(?:(?<![\w./…\\])\.{{1,2}}/(?=[\w.~-])|(?:(?<=[\s\"'`=])|^)\.{{1,2}}\\(?=\w)){_END}*")
_FRAME = re.compile(r"^(?P<folder>.*[/\\])(?P<rest>[^/\\]+\.(?:pyx?|pyi|c|cc|cpp|cu|h|hpp)\(\d+\).*)$", re.DOTALL)
_LINE = re.compile(r"\(\d+\)")
_CODE = re.compile(r"\.(?:pyx?|pyi|cc|cpp|cu|hpp|so(?:\.\d+)*)$")
_INSTALLED = re.compile(r"/(?:site|dist)-packages/|^/usr/|^/lib(?:64)?/|/lib/python3")
_ONNX = re.compile(
    rf"(?!/{_KNOWN_ROOT}/)(?=/(?:model|encoder|decoder|transformer|backbone|lm_head)/|\D*\d)"
    r"/(?:[\w.:-]+/)*(?:Add|And|ArgMax|Attention|Cast|Clip|Concat|Constant|ConstantOfShape|Conv|Cos|Div|Einsum|Equal|Erf|Exp|"
    r"Expand|Flatten|Gather|GatherElements|GatherND|Gelu|Gemm|Greater|Identity|LayerNormalization|Less|Log|MatMul|Max|Min|Mul|"
    r"Neg|Not|Pad|Pow|Range|Reciprocal|ReduceMax|ReduceMean|ReduceSum|Relu|Reshape|RMSNormalization|ScatterND|Shape|Sigmoid|"
    r"Sin|Slice|Softmax|Split|Sqrt|Squeeze|Sub|Tanh|Tile|TopK|Transpose|Trilu|Unsqueeze|Where)(?:_\d+)?"
)

_URL = re.compile(rf"(?<![\w+.-])([A-Za-z][A-Za-z0-9+.-]{{1,20}})://(?!<){_END}+")
_OF_FILES = {"file", "s3", "gs", "az", "abfs", "abfss", "hdfs", "nfs", "smb", "ipc", "unix", "inproc", "dbfs", "oss", "hf"}
_AT = re.compile(
    r"(?<![\w.+-])[A-Za-z_][\w.+-]*@(?P<host>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b|[\w-]+(?=:[~/<]))"
)
_HOST_KEYS = (
    r"(?:[a-z]{1,20}_){0,2}(?:instance|node_?name|node|host_?name|host|pod(?:_name)?|kubernetes_node|server|addr|address|ip)"
)
_LABEL = re.compile(
    rf"""(?<![\w.-])(?P<key>{_HOST_KEYS})(?P<is>=|['"]?\s?:\s|='|="|\s(?=['"]))(?P<q>['"]?)(?P<host>[^\s,;}}\])'"<=]+)""",
    re.IGNORECASE,
)
_LINE_OF = re.compile(
    r"(?P<before>^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d )(?P<host>[\w.-]+)(?= [\w./-]+(?:\[\d+\])?:)"
    r"|(?P<nccl>^|\s)(?P<of_nccl>[\w.-]+)(?=:\d+:\d+ \[\d+\] NCCL)|(?P<pod>\[pod/)(?P<of_pod>[\w.-]+)(?=/)"
)
"""What writes its host before each line: syslog, NCCL, kubectl."""

_V4 = re.compile(r"(?<![\w.+-])(?<!version )(?<!version: )(?<!version is )(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d|\+)")
_V6 = re.compile(
    r"(?<![\w:.])(?:[23][0-9A-Fa-f]{3}|f[cd][0-9A-Fa-f]{2}|fe[89ab][0-9A-Fa-f]|::ffff|(?=::1(?![\w:.])))"
    r"(?::[0-9A-Fa-f.]{0,15}){1,7}(?:%\w+)?(?![\w:])"
)
_DOMAIN = re.compile(
    r"(?<![\w./@:-])(?!threading\.local\b)(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+"
    r"(?:local|internal|lan|corp|intra|intranet|localdomain|com|net|org|edu|gov|cn|de|uk|fr|eu|jp)(?![\w-]|\.\w|\()"
)
_CLOUD = re.compile(r"(?<![\w-])ip-\d+-\d+-\d+-\d+(?:\.[\w-]+)*")

_FILE_IN_FOLDER = re.compile(rf"(?<![\w./\\:<>-])(?:[\w.@+%-]+/)+[\w.@+%-]+\.(?:{DATA}|{CONTENTS})(?![\w/(-]|\.\w)")
_FILE = re.compile(rf"(?<![\w./\\:<>-])(?<!file )[\w.@+%-]*[\w%]\.{DATA}(?![\w/(-]|\.\w)")
_TRACE = re.compile(r"(?<![\w./\\-])(?P<host>[\w.-]+)_\d+\.(?:[\w-]+\.)?\d{10,}\.pt\.trace\.json(?:\.\w+)?")
_CALL = re.compile(r"\b(Namespace|\w*(?:Server|Engine)Args)\((?!<command>\)).*", re.DOTALL)
_ARGUMENTS = re.compile(
    r"(?i)(?<![\w-])((?:non-default )?args|server_args|argv|cmd ?line|cmd|command(?: line)?)(\s?[:=]\s?)([\[{(\"'].*)",
    re.DOTALL,
)
_PROGRAM = re.compile(
    r"""(?:(?<=[\s"'`(=])|^)(?:[^\s"'`()=]{0,400}/)?
    (?: python[\d.]*\s+(?:-\S|\S+\.py\b) | [^\s"'`()=/]{1,100}\.(?:py|sh)\s+-{1,2}[a-z]
      | (?:torchrun|mpirun|mpiexec|srun|sbatch|deepspeed)\s+\S | accelerate\s+launch\b
      | (?:vllm|sglang)\s+(?:serve|bench|launch)\b | (?:docker|podman)\s+(?:run|exec)\b | (?:ba|z)?sh\s+-\w*c\b | sudo\s+\w )
    [^`\n]*""",
    re.VERBOSE,
)
_OPTIONS = re.compile(r"(?<![\w-])(?:--[a-z][\w-]*(?:[= ](?!-)[^\s`]+)?(?:\s+|$)){3,}")


def redact_text(text: str) -> str:
    """Return a text without paths, addresses, host names, user names and command lines that can be told by their shape."""
    return sentence(text, lambda host: LOCAL if is_local(host) else HOST)


def redact_line(line: str, arguments: Iterable[str]) -> str:
    """Return a line of stderr, such as an error, without the paths among a command's ``arguments``, and as `redact_text`.

    Any argument may be a path, whatever it looks like, but for options and the words of `WORDS`.
    """
    for part in sorted(set(_said(arguments)), key=lambda part: (-len(part), part)):
        if part in line:
            line = re.sub(rf"(?<![\w./-]){re.escape(part)}(?:[/#](?:{_END}*[^\s\"'`<>|)\]}},;….:])?)?(?![\w-])", PATH, line)
    return redact_text(line)


_NO_PATHS = ("--cycle", "--explain", "--format", "--for")


def _said(arguments: Iterable[str]) -> Iterator[str]:
    """Yield what may be paths among the arguments of a command, as given and as `pathlib` writes it."""
    before = ""
    for word in arguments:
        option, _, value = word.partition("=") if word.startswith("-") else (before, "", word)
        before = word
        attached = [word[at:] for at in range(2, 5)] if re.match(r"-\w", word) else []  # -oDIR, -fqoDIR
        for part in (value.rstrip("/"), str(PurePath(value)) if value else "", *attached):
            if option not in _NO_PATHS and not is_word(part):
                yield part


def name(text: str, host: Label) -> str:
    """Return the name of a function, device or metric: of a frame in a file the file's own name stays, and the function's.

    >>> name("/opt/app/vllm/engine.py(12): step", lambda _: HOST)
    'engine.py(12): step'
    """
    if not _MAYBE.search(text):
        return text
    if (frame := _FRAME.match(text)) and _is_absolute(frame["folder"]):
        return frame["rest"]
    if _ONNX.fullmatch(text):
        return text
    return _addresses(_paths(_urls(text, host)), host)


def sentence(text: str, host: Label) -> str:
    """Return any other text: prose, a line of a log, a value of a setting."""
    if not _MAYBE_IN_TEXT.search(text):
        return text
    text = _LINE_OF.sub(lambda m: f"{m['before'] or m['nccl'] or m['pod'] or ''}{host(m[m.lastgroup or 0])}", text)
    text = _commands(text)
    text = _urls(text, host)
    text = _TRACE.sub(lambda m: m[0] if is_made(m[0]) else FILE, text)
    text = _addresses(_files(_paths(_quoted(text))), host)
    return _DOMAIN.sub(lambda m: host(m[0]), text)


_MAYBE = re.compile(r"[/\\~@]|\d\.\d+\.\d|[0-9a-f]:.*:|:/|=|\bip-")
_MAYBE_IN_TEXT = re.compile(rf"{_MAYBE.pattern}|[\w%]\.[A-Za-z]|\(|--|: |\b(?:python|vllm|sglang|torchrun|sudo|srun|sh)\b")


def hosts_in(text: str, is_name: bool = False) -> list[str]:
    """Return the hosts that a sentence, or a `name`, tells by their shape or behind a key, in their order."""
    found: list[str] = []

    def label(host: str) -> str:
        found.append(host)
        return HOST

    (name if is_name else sentence)(text, label)
    return found


def host_of_trace(file: str) -> str:
    """Return the host in the name that torch.profiler gives a trace, ``HOST_PID.NS.pt.trace.json``; empty without one."""
    match = _TRACE.fullmatch(re.split(r"[/\\]", file)[-1])
    return match["host"] if match and not is_word(match["host"]) else ""


def users_in(text: str) -> list[str]:
    """Return the users whose home folders a text names."""
    if "/home/" not in text and "Users" not in text and "~" not in text and "Settings" not in text:
        return []
    return [user for user in _HOMES.findall(text) if not is_word(user)]


_HOMES = re.compile(
    r"(?:/home/|/Users/|(?<![\w~/.])~|[A-Za-z]:\\(?:Users|Documents and Settings)\\)([A-Za-z_][\w.-]*)(?=[/\\\s\"']|$)"
)


def _commands(text: str) -> str:
    text = _CALL.sub(rf"\1({COMMAND})", text)
    text = _ARGUMENTS.sub(lambda m: f"{m[1]}{m[2]}{COMMAND}", text)
    text = _PROGRAM.sub(COMMAND, text)
    return _OPTIONS.sub(_options, text)


def _options(match: re.Match[str]) -> str:
    """Keep options without values: advice has such."""
    if not re.search(r"[= ][^\s-]", match[0]):
        return match[0]
    return COMMAND + (" " if match[0][-1:].isspace() else "")


def _urls(text: str, host: Label) -> str:
    def stand_in(match: re.Match[str]) -> str:
        url = match[0].rstrip(".:…")
        scheme, rest = match[1], url.partition("://")[2]
        after = match[0][len(url) :]
        if scheme.lower() in _OF_FILES:
            return PATH + after
        place = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
        return f"{scheme}://{host(without_port(place))}{after}" if place else f"{scheme}://{PATH}{after}"

    return _URL.sub(stand_in, text) if "://" in text else text


def without_port(place: str) -> str:
    """Return the host of ``host:port``."""
    if place.startswith("["):
        return place.partition("]")[0] + "]"
    return place if place.count(":") > 1 else place.partition(":")[0]


def _quoted(text: str) -> str:
    """Take whole what stands between quotes: names of folders have spaces."""

    def stand_in(match: re.Match[str]) -> str:
        inner = match[2]
        whole = None if _SEVERAL.search(inner) else _path(inner, text[match.end() :])
        return f"{match[1]}{inner if whole is None else whole}{match[1]}"

    return _QUOTED.sub(stand_in, text)


_SEVERAL = re.compile(r"[,;{}|]| (?=/)|\bHTTP/")


def _paths(text: str) -> str:
    if "\\" in text or ":/" in text:
        text = _WINDOWS.sub(PATH, text)
        text = _ESCAPED.sub(PATH, text)
    if "~" in text:
        text = _HOME.sub(PATH, text)
    if "/" not in text and "\\" not in text:
        return text
    text = _RELATIVE.sub(_stand_in, text)
    return _POSIX.sub(_stand_in, text)


def _stand_in(match: re.Match[str]) -> str:
    whole = match[0].rstrip(".")
    found = _path(whole, match.string[match.end() :])
    return match[0] if found is None else found + match[0][len(whole) :]


def _path(path: str, after: str) -> str | None:
    """Return what stands for a path; None where it may stay."""
    if _SYSTEM.fullmatch(path):
        return None
    last = re.split(r"[/\\]", path)[-1]
    if _CODE.search(last) and (_LINE.match(after) or _INSTALLED.search(path)):
        return last
    return PATH


def _is_absolute(folder: str) -> bool:
    return re.match(r"/|~|\.\.?[/\\]|[A-Za-z]:[\\/]|\\\\|(?:home|Users)/", folder) is not None or "-packages/" in folder


def _files(text: str) -> str:
    def stand_in(match: re.Match[str]) -> str:
        last = match[0].rpartition("/")[2]
        return match[0] if is_made(match[0]) or is_public(last) else FILE

    return _FILE.sub(stand_in, _FILE_IN_FOLDER.sub(stand_in, text)) if "." in text else text


def _addresses(text: str, host: Label) -> str:
    if "@" in text:
        text = _AT.sub(lambda m: f"{USER}@{host(m['host'])}", text)
    if "=" in text or ": " in text:
        text = _LABEL.sub(_labelled(host), text)
    if "." in text:
        text = _V4.sub(lambda m: host(m[0]) if _is_address(m[0]) else m[0], text)
    if ":" in text:
        text = _V6.sub(lambda m: host(m[0]) if _is_address(m[0]) else m[0], text)
    return _CLOUD.sub(lambda m: host(m[0]), text) if "ip-" in text else text


def _labelled(host: Label) -> Callable[[re.Match[str]], str]:
    def stand_in(match: re.Match[str]) -> str:
        place = match["host"]
        bare = without_port(place)
        in_prose = match["is"][-1] == " " and not match["q"]  # "host: waiting for a core"
        if "://" in place or not is_host(bare) or (in_prose and not re.match(r"[A-Za-z][\w.-]*\d", bare)):
            return match[0]
        return f"{match['key']}{match['is']}{match['q']}{host(bare)}{place[len(bare) :]}"

    return stand_in


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return not re.match(r"0\.(?!0\.0\.0)", text)
