"""Files that are none of our formats, told from how they begin, so that an error can say what they are."""

import re

from tinymvit.text import short

LENGTH = 512  # bytes of a file's beginning that tell what it is

# What a file begins with -> what it is.
_BEGINNINGS = {
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer, not the file itself (git lfs pull fetches it)",
    b"\x93NUMPY": "a .npy file of NumPy",
    b"PK\5\6": "an empty zip file",
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"BZh": "compressed by bzip2; unpack it first",
    b"\xfd7zXZ\0": "compressed by xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard; unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it first",
    b"GGUF": "a GGUF file",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|!--|html|head|\?xml)", re.IGNORECASE)
_PROTOBUF = re.compile(rb"\x08([\1-\x14])(?:([\x12\x1a\x22\x3a\x42])([\0-\xff]{1,6}))?", re.DOTALL)


def what_it_is(head: bytes) -> str | None:
    """What a file that begins so is, in words; None if it cannot be told. `head` has its first `LENGTH` bytes."""
    if not head:
        return "an empty file"
    for beginning, found in _BEGINNINGS.items():
        if head.startswith(beginning):
            return found
    if head[4:8] == b"TFL3":
        return "a TFLite model"
    if head[257:262] == b"ustar":
        return "a tar archive (files that PyTorch wrote before 0.1.10 are, and are not read)"
    if _PAGE.match(head):
        return "a page of HTML or XML, as a server sends it with an error; fetch the file again"
    if head.lstrip()[:1] in (b"{", b"[") and _text(head) is not None:
        return "JSON text"
    text = _text(head)
    if text is not None and len(head) >= 12:
        return f"text, beginning with {short(text[:40])}"
    return _protobuf(head)


def _text(head: bytes) -> str | None:
    """The beginning as text, if it is text: the last character may be cut off."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as failure:
        if failure.start < len(head) - 3 or len(head) < LENGTH:
            return None
        text = head[: failure.start].decode("utf-8")
    return text if all(character.isprintable() or character in "\r\n\t" for character in text) else None


def _protobuf(head: bytes) -> str | None:
    """Models in protocol buffers begin with a version, and with the name of the producer or a message behind it."""
    found = _PROTOBUF.match(head)
    if found is None or found[2] is None:
        return None
    if found[1] == b"\1" and found[2] == b"\x12":
        return "a SavedModel of TensorFlow"
    if found[2] == b"\x12" and b"\n" in found[3][1:]:
        return "a Core ML model"
    return "an ONNX model"
