"""The examples of AWS's own documentation, and botocore as an oracle."""

import hashlib
from datetime import UTC, datetime
from urllib.parse import quote

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.auth import sigv4
from gateway.auth.sigv4 import Claim, MalformedError, Scope, SignedHeaders
from gateway.routes import parse_query

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SCOPE = Scope("20130524", "us-east-1", "s3")
TIMESTAMP = "20130524T000000Z"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
WELCOME = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()


@pytest.mark.parametrize(
    ("method", "path", "query", "extra", "payload", "signature"),
    [
        (
            "GET",
            "/test.txt",
            "",
            [("range", "bytes=0-9")],
            EMPTY,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test$file.text",
            "",
            [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
            WELCOME,
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        ("GET", "/", "lifecycle", [], EMPTY, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "GET",
            "/",
            "max-keys=2&prefix=J",
            [],
            EMPTY,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_signatures_are_those_of_the_documentation(
    method: str, path: str, query: str, extra: list[tuple[str, str]], payload: str, signature: str
) -> None:
    headers = [
        ("host", "examplebucket.s3.amazonaws.com"),
        ("x-amz-content-sha256", payload),
        ("x-amz-date", TIMESTAMP),
        *extra,
    ]
    canonical = sigv4.canonical_request(
        method,
        path.encode(),
        parse_query(query.encode()).pairs,
        [(name.encode(), value.encode()) for name, value in headers],
        SignedHeaders(tuple(sorted(name.encode() for name, _ in headers))),
        payload,
    )
    text = sigv4.string_to_sign(TIMESTAMP, SCOPE, canonical)
    assert sigv4.sign(sigv4.derive_key(SECRET, SCOPE), text) == signature
    assert sigv4.matches(sigv4.derive_key(SECRET, SCOPE), text, signature)
    assert not sigv4.matches(sigv4.derive_key(SECRET, SCOPE), text, "0" * 64)


def test_the_presigned_example_of_the_documentation() -> None:
    query = (
        b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F"
        b"aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    )
    headers = [(b"host", b"examplebucket.s3.amazonaws.com")]
    canonical = sigv4.canonical_request(
        "GET", b"/test.txt", parse_query(query).pairs, headers, SignedHeaders((b"host",)), "UNSIGNED-PAYLOAD"
    )
    text = sigv4.string_to_sign(TIMESTAMP, SCOPE, canonical)
    signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    assert sigv4.sign(sigv4.derive_key(SECRET, SCOPE), text) == signature


_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(key=_text, parameters=st.dictionaries(_text.filter(bool), _text, max_size=4), header=st.text("ab \t,=é"))
def test_canonical_requests_are_those_of_botocore(key: str, parameters: dict[str, str], header: str) -> None:
    path = "/bucket/" + quote(key, safe="/~")
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters.items())
    url = f"http://s3.test{path}" + (f"?{query}" if query else "")
    sent = botocore.awsrequest.AWSRequest("PUT", url, {"x-amz-meta-a": header, "X-Amz-Content-SHA256": EMPTY})
    signer = botocore.auth.S3SigV4Auth(botocore.credentials.Credentials("a", SECRET), "s3", "us-east-1")
    expected = signer.canonical_request(sent)
    ours = sigv4.canonical_request(
        "PUT",
        path.encode(),
        parse_query(query.encode()).pairs,
        [
            (b"host", b"s3.test"),
            (b"x-amz-content-sha256", EMPTY.encode()),
            (b"x-amz-meta-a", header.encode().strip(b" \t")),
        ],
        SignedHeaders((b"host", b"x-amz-content-sha256", b"x-amz-meta-a")),
        EMPTY,
    )
    assert ours.decode() == expected


def test_a_path_may_leave_characters_unescaped_that_others_escape() -> None:
    assert sigv4.canonical_path(b"/b/a+b=c:%7E%2f") == "/b/a%2Bb%3Dc%3A~/"


def test_repeated_headers_are_joined_and_blanks_folded() -> None:
    canonical = sigv4.canonical_request(
        "GET",
        b"/",
        (),
        [(b"x-amz-a", b"1   2"), (b"host", b"h"), (b"x-amz-a", b"3")],
        SignedHeaders((b"host", b"x-amz-a")),
        "p",
    )
    assert canonical == b"GET\n/\n\nhost:h\nx-amz-a:1 2,3\n\nhost;x-amz-a\np"


def test_an_authorization_header_is_read_with_and_without_blanks() -> None:
    value = (
        "AWS4-HMAC-SHA256 Credential=a/key/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range,   Signature="
        + "f" * 64
    )
    assert sigv4.parse_authorization(value) == Claim("a/key", SCOPE, SignedHeaders((b"host", b"range")), "f" * 64)


@pytest.mark.parametrize("form", ["{0}, X{1}, {2}", "{2},{0},X{1}", " {0},\t{2} , XX={1}"])
def test_the_signature_is_the_component_of_that_name(form: str) -> None:
    others = "Credential=k/20130524/us-east-1/s3/aws4_request, SignedHeaders=host"
    value = form.format(others, "Signature=" + "a" * 64, "Signature=" + "f" * 64)
    claim = sigv4.parse_authorization(f"AWS4-HMAC-SHA256 {value}")
    assert claim == Claim("k", SCOPE, SignedHeaders((b"host",)), "f" * 64)


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "Credential=k/20130524/us-east-1/s3/aws4_request, SignedHeaders=host, XSignature=" + "f" * 64,
        "Credential=k/20130524/us-east-1/s3/aws4_request",
        "Credential=k/20130524/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=xyz",
        "Credential=k/20130524/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=" + "F" * 64,
        "Credential=k/2013/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=" + "f" * 64,
        "Credential=/20130524/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=" + "f" * 64,
        "Credential=k/20130524/us-east-1/s3/aws3_request, SignedHeaders=host, Signature=" + "f" * 64,
        "Credential=k/20130524/us-east-1/s3, SignedHeaders=host, Signature=" + "f" * 64,
        "Credential=k/20130524/us-east-1/s3/aws4_request, SignedHeaders=Host, Signature=" + "f" * 64,
        "Credential=k/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;host, Signature=" + "f" * 64,
        "Credential=k/20130524/us-east-1/s3/aws4_request, SignedHeaders=, Signature=" + "f" * 64,
        "Credential=k/20130524/us-east-1/s3/aws4_request, SignedHeaders=host, Signature="
        + "f" * 64
        + ", Signature="
        + "f" * 64,
        "nonsense",
    ],
)
def test_a_malformed_authorization_header_is_refused(rest: str) -> None:
    with pytest.raises(MalformedError):
        sigv4.parse_authorization(f"AWS4-HMAC-SHA256 {rest}")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20130524T000000Z", 1369353600),
        ("20130524T000000", None),
        ("2013-05-24T00:00:00Z", None),
        ("20131324T000000Z", None),
        ("20130524T250000Z", None),
        ("٢0130524T000000Z", None),
        ("", None),
    ],
)
def test_timestamps_have_one_form(text: str, seconds: int | None) -> None:
    assert sigv4.parse_timestamp(text) == seconds


def test_http_dates_are_read_in_their_zone() -> None:
    assert sigv4.parse_http_date("Fri, 24 May 2013 00:00:00 GMT") == 1369353600
    assert sigv4.parse_http_date("Fri, 24 May 2013 02:00:00 +0200") == 1369353600
    assert sigv4.parse_http_date("yesterday") is None
    assert sigv4.parse_http_date("Fri, 31 Dec 9999 23:59:59 GMT") == 253402300799


@given(
    st.one_of(
        st.text(max_size=40), st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} (Jan|Dec|Xyz) -?\d{1,6} \d+:\d+:\d+ [+-]\d{4,7}")
    )
)
@example("Fri, 31 Dec 9999 23:59:59 -2359")
def test_no_date_of_http_is_one_that_has_no_timestamp(text: str) -> None:
    seconds = sigv4.parse_http_date(text)
    assert seconds is None or datetime.fromtimestamp(seconds, UTC).year >= 1970
