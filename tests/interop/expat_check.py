"""What stanzad's parser makes of a stream, compared with expat, the parser of many clients.

`examples/canonical` reads a stream and prints the canonical bytes of each child of the root, then
`error CONDITION` if it refused the rest. Expat reads the same stream and then those bytes, and both
must be the same information set: names with namespaces, attributes, text. What expat refuses,
stanzad must never have passed on. It may refuse more than expat does.
"""

import random
import re
import subprocess
from pathlib import Path
from xml.parsers import expat

RUN_SECONDS = 10
CORPUS = Path(__file__).parents[1] / "xml_corpus"
NAMESPACE_SEPARATOR = "\x1f"
CLIENT = "jabber:client"
STREAMS = "http://etherx.jabber.org/streams"
# What only says that the stream goes on, or has gone on after its end: nothing is passed on by it.
_CODES = expat.errors.codes
UNFINISHED = {
    _CODES[expat.errors.XML_ERROR_NO_ELEMENTS],
    _CODES[expat.errors.XML_ERROR_UNCLOSED_TOKEN],
    _CODES[expat.errors.XML_ERROR_PARTIAL_CHAR],
    _CODES[expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION],
    _CODES[expat.errors.XML_ERROR_JUNK_AFTER_DOC_ELEMENT],
}
VERDICT = re.compile(rb"(?:\A|>)\s*error ([a-z-]+)\s*\Z")


class Reading:
    """What expat saw of a document: the children of the root that it completed, and its error."""

    def __init__(self, document):
        self.children = []
        self.error = None
        self._open = []
        # A stream is UTF-8 whatever its declaration says (RFC 6120 §11.6).
        parser = expat.ParserCreate("UTF-8", NAMESPACE_SEPARATOR)
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        try:
            parser.Parse(document, True)
        except expat.ExpatError as error:
            self.error = None if error.code in UNFINISHED else str(error)

    def _start(self, name, attributes):
        self._open.append((name, tuple(sorted(attributes.items())), []))

    def _end(self, _name):
        element = self._open.pop()
        if len(self._open) == 1:
            self.children.append(element)
        elif self._open:
            self._open[-1][2].append(element)

    def _text(self, text):
        # Between the children of the root there is nothing but whitespace.
        if len(self._open) > 1:
            content = self._open[-1][2]
            if content and isinstance(content[-1], str):
                content[-1] += text
            else:
                content.append(text)


def canonical(program, document):
    """Canonical children in one byte string, and the condition of the refusal or None."""
    done = subprocess.run(
        [program], input=document, capture_output=True, timeout=RUN_SECONDS, check=False
    )
    assert done.returncode in (0, 1), f"canonical ended with {done.returncode}: {done.stderr!r}"
    verdict = VERDICT.search(done.stdout)
    if verdict is None:
        return done.stdout, None
    start = verdict.start() + (
        1 if done.stdout[verdict.start() : verdict.start() + 1] == b">" else 0
    )
    return done.stdout[:start], verdict[1].decode()


def compare(program, document):
    """Yields the condition with which stanzad refused the document (or None), and what expat read.

    Raises AssertionError where stanzad passed on what expat reads otherwise or does not read.
    """
    theirs = Reading(document)
    output, condition = canonical(program, document)
    # On the wire the bytes stand in a stream whose content namespace is this one.
    ours = Reading(f'<root xmlns="{CLIENT}">'.encode() + output + b"</root>")
    assert ours.error is None, f"expat refuses our bytes: {ours.error}: {output!r}"
    expected = theirs.children[: len(ours.children)]
    assert ours.children == expected, f"read as {ours.children}, expat reads {expected}"
    if condition is None and theirs.error is None:
        assert len(ours.children) == len(theirs.children), "children are missing"
    return condition, theirs


def accepted(program, document):
    """The same for a document that both must read to its end."""
    condition, theirs = compare(program, document)
    assert condition is None, f"refused as {condition}"
    assert theirs.error is None, f"expat refuses it: {theirs.error}"


def corpus(program, folder):
    """Each document of tests/xml_corpus; the names of those to be refused tell the condition."""
    paths = sorted(folder.glob("*.xml"))
    assert len(paths) > 20, f"{folder} has {len(paths)} documents"
    for path in paths:
        wanted = re.match(r"refused-(.+)--", path.name)
        try:
            if wanted is None:
                accepted(program, path.read_bytes())
            else:
                condition, _ = compare(program, path.read_bytes())
                assert condition == wanted[1], f"refused as {condition}"
        except AssertionError as error:
            raise AssertionError(f"{path.name}: {error}") from None
    return f"{len(paths)} documents"


class Generator:
    """Random streams, well-formed and within what XMPP allows (RFC 6120 §11)."""

    NAMES = ("a", "body", "x-1", "_u", "Item.2", "q_r")
    SPACES = (CLIENT, "urn:x:a", "urn:x:b", "http://example.org/ns#c", "jabber:x:data")
    PREFIXES = ("p", "q", "stream", "ns0")
    TEXTS = (
        "plain",
        "two  spaces",
        "äöü ß",
        "你好",
        "\U0001f680",
        "tab\there",
        "line\nbreak",
        "\u0085\u2028",
        "]] >",
        "'\"",
        "\ufffd\u200b",
    )
    REFERENCES = (
        "&lt;",
        "&gt;",
        "&amp;",
        "&apos;",
        "&quot;",
        "&#65;",
        "&#x1F680;",
        "&#10;",
        "&#13;",
        "&#9;",
    )
    MARKUP = tuple(b"< > & ]]> <!--x--> <?p?> \x00 \xff \xc3 &#0; &x; xml: xmlns=''".split()) + (
        b" xmlns:xml='urn:x'",
        b"<!DOCTYPE a>",
    )
    CDATA = ("<b>&amp;</b>", "]]", "", "]", "a&b", "é\n")

    def __init__(self, seed):
        self._random = random.Random(seed)

    def stream(self):
        pick = self._random.choice
        declaration = pick(
            ("", "<?xml version='1.0'?>", '<?xml version="1.0" encoding="UTF-8"?>\n')
        )
        head = (
            "<stream:stream to='example.org' version='1.0'"
            f" xmlns='{CLIENT}' xmlns:stream='{STREAMS}'>"
        )
        parts = [declaration, head]
        for _ in range(self._random.randint(1, 4)):
            parts.append(self._element({"": CLIENT, "stream": STREAMS}, 0))
            parts.append(pick(("", " ", "\n", "\r\n")))
        parts.append("</stream:stream>")
        return "".join(parts).encode()

    def _element(self, scope, depth):
        pick = self._random.choice
        scope = dict(scope)
        declared = {}
        if self._random.random() < 0.4:
            declared[""] = pick(self.SPACES)
        if self._random.random() < 0.3:
            # Not the content namespace: elements in it have no prefix (RFC 6120 §4.8.5).
            declared[pick(self.PREFIXES)] = pick(self.SPACES[1:])
        scope.update(declared)
        prefix = pick(sorted(scope))
        name = f"{prefix}:{pick(self.NAMES)}" if prefix else pick(self.NAMES)
        attributes = [self._declaration(prefix, uri) for prefix, uri in declared.items()]
        attributes += self._attributes(scope)
        self._random.shuffle(attributes)
        start = f"<{name}" + "".join(pick((" ", "  ", "\n", "\t")) + a for a in attributes)
        start += pick(("", "", " "))
        content = self._content(scope, depth)
        if not content and self._random.random() < 0.5:
            return f"{start}/>"
        return f"{start}>{content}</{name}{pick(('', ' '))}>"

    def _declaration(self, prefix, uri):
        quote = self._random.choice("'\"")
        return f"xmlns{':' if prefix else ''}{prefix}={quote}{uri}{quote}"

    def _attributes(self, scope):
        pick = self._random.choice
        taken, attributes = set(), []
        for _ in range(self._random.randint(0, 3)):
            prefix = pick([p for p in scope if p] + ["", "", "xml"])
            name = "lang" if prefix == "xml" else pick(self.NAMES)
            key = (scope.get(prefix, prefix) if prefix else "", name)
            if key in taken:
                continue
            taken.add(key)
            quote = pick("'\"")
            value = "".join(
                self._piece().replace(quote, "") for _ in range(self._random.randint(0, 3))
            )
            full = f"{prefix}:{name}" if prefix else name
            attributes.append(f"{full}{pick(('=', ' = '))}{quote}{value}{quote}")
        return attributes

    def _piece(self):
        return self._random.choice(self.TEXTS + self.REFERENCES)

    def _content(self, scope, depth):
        parts = []
        for _ in range(self._random.randint(0, 4)):
            kind = self._random.random()
            if kind < 0.35 and depth < 5:
                parts.append(self._element(scope, depth + 1))
            elif kind < 0.5:
                parts.append(f"<![CDATA[{self._random.choice(self.CDATA)}]]>")
            else:
                parts.append(self._piece())
        return "".join(parts)

    def damaged(self):
        """A stream with some bytes changed, dropped, doubled, or replaced by markup.

        Not in its declaration: xml-rs reads that less strictly than expat, but nothing of it is
        passed on, and the bytes behind it are read as UTF-8 all the same.
        """
        document = bytearray(self.stream())
        start = document.index(b"<stream:")
        for _ in range(self._random.randint(1, 3)):
            at = self._random.randrange(start, len(document))
            kind = self._random.randrange(4)
            if kind == 0:
                document[at] = self._random.randrange(256)
            elif kind == 1:
                del document[at : at + self._random.randint(1, 4)]
            elif kind == 2:
                document[at:at] = document[at : at + self._random.randint(1, 12)]
            else:
                document[at:at] = self._random.choice(self.MARKUP)
        return bytes(document)


def fresh(program, seed, count):
    """Random well-formed streams: none is refused, and each is read as expat reads it."""
    for number in range(count):
        document = Generator(f"{seed}/{number}").stream()
        try:
            accepted(program, document)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}/{number}: {error}: {document!r}") from None
    return f"{count} documents, seed {seed}"


def damaged(program, seed, count):
    """Random damaged streams: nothing is passed on that expat reads otherwise or not at all."""
    refused = 0
    for number in range(count):
        document = Generator(f"{seed}/{number}").damaged()
        try:
            refused += compare(program, document)[0] is not None
        except AssertionError as error:
            raise AssertionError(f"seed {seed}/{number}: {error}: {document!r}") from None
    return f"{count} documents, {refused} refused, seed {seed}"


async def run(suite, to_thread):
    """The three checks; the seed is told, so that a failure can be made again."""
    program = suite.options.examples / "canonical"
    seed = suite.options.seed
    check = suite.report.check
    await check("expat", "corpus of tests/xml_corpus", to_thread(corpus, program, CORPUS), 60)
    await check("expat", "fresh random streams", to_thread(fresh, program, seed, 1000), 60)
    await check("expat", "damaged random streams", to_thread(damaged, program, seed, 1000), 60)
