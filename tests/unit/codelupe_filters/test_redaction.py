from __future__ import annotations

import ast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codelupe_filters.redaction import MOST_SECRETS, MaxRedacted, Redacted, compile_rules, kind_of, load_scanner, redact

# Written in halves, so that no scanner takes them for real ones.
GITHUB = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
AWS = "AKIA" + "IOSFODNN7QWERTYU"
SLACK = "xoxb-" + "123456789012-1234567890123-4mt0t4l1yf3g5r3n4k1ngfsh"
STRIPE = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
    "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ."
    "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
)
BODY = "MIIEpAIBAAKCAQEA1c7+9z5Pad7OejecsQ0bu3aozN3tihPmljnnudb9G3HECdnH\n" * 3 + "lWu2/a1gB9=\n"


def pem(kind: str = "RSA PRIVATE KEY", body: str = BODY) -> str:
    return f"-----BEGIN {kind}-----\n{body}-----END {kind}-----"


def redacted(text: str, cache: str, key: bytes = b"key") -> Redacted:
    return redact(text.encode(), key, cache)


@pytest.mark.parametrize(
    ("text", "secret", "kind"),
    [
        (f"token = '{GITHUB}'", GITHUB, "GITHUB_PAT"),
        (f"call('{GITHUB}')", GITHUB, "GITHUB_PAT"),
        (f"key = '{AWS}'", AWS, "AWS_ACCESS_KEY_ID"),
        (f"é = '{SLACK}'", SLACK, "SLACK_BOT_TOKEN"),
        (f"stripe = '{STRIPE}'", STRIPE, "STRIPE_ACCESS_TOKEN"),
        (f"t = '{JWT}'", JWT, "JWT"),
        ("password = 'Tr0ub4dor&3xyz'", "Tr0ub4dor&3xyz", "ASSIGNED_SECRET"),
        ('{"apiKey": "9f8e7d6c5b4a3928"}', "9f8e7d6c5b4a3928", "ASSIGNED_SECRET"),
        ("const auth_key := `k3y-0f-mine`", "k3y-0f-mine", "ASSIGNED_SECRET"),
        ("db = 'postgres://admin:s3cr3tPassw0rd@db:5432/x'", "s3cr3tPassw0rd", "GENERIC_CREDENTIAL_URI"),
        ("by Jo <jo.doe@corp.net>", "jo.doe@corp.net", "EMAIL"),
        ("host = '52.14.233.91'", "52.14.233.91", "IP_ADDRESS"),
        ("get('http://52.14.233.91:80/')", "52.14.233.91", "IP_ADDRESS"),
        ("host = '2a00:1450:4001:81b::200e'", "2a00:1450:4001:81b::200e", "IP_ADDRESS"),
    ],
)
def test_a_secret_leaves_a_placeholder_of_its_kind(text: str, secret: str, kind: str, secrets_cache: str) -> None:
    it = redacted(text, secrets_cache)
    before, after = text.split(secret)
    content = it.content.decode()
    assert content.startswith(f"{before}<{kind}:")
    assert content.endswith(f">{after}")
    assert it.counts == {kind: 1}
    assert it.share == pytest.approx(len(secret) / len(text.encode()))


@pytest.mark.parametrize(
    "key",
    [
        pem(),
        pem("PRIVATE KEY"),
        pem("OPENSSH PRIVATE KEY"),
        pem("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF\n\n" + BODY),
        pem("PGP PRIVATE KEY BLOCK", "Version: GnuPG v1\n\n" + BODY),
        pem().replace("\n", "\\n"),
        pem().replace("\n", '\\n"\n    "'),
        pem().rpartition("l")[0],
    ],
)
def test_a_private_key_goes_as_a_whole(key: str, secrets_cache: str) -> None:
    it = redacted(f'key = ("{key}")\nx = 1\n', secrets_cache)
    assert it.counts == {"PRIVATE_KEY": 1}
    assert b"MIIE" not in it.content
    assert it.content.startswith(b'key = ("<PRIVATE_KEY:')
    assert it.content.endswith(b'")\nx = 1\n')


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN = '-----BEGIN RSA PRIVATE KEY-----'\nEND = '-----END RSA PRIVATE KEY-----'\n",
        "-----BEGIN PUBLIC KEY-----\n" + BODY + "-----END PUBLIC KEY-----",
        "user@example.com, user@mail.example.org, root@localhost, jo@corp.invalid",
        "git clone git@github.com:owner/repo.git",
        "icon@2x.png, logo@3x.webp, pkg@latest.js",
        "y = x@y.T; @app.route('/')",
        "127.0.0.1 0.0.0.0 10.1.2.3 192.168.0.1 172.16.4.4 169.254.1.1 255.255.255.0 224.0.0.251",
        "192.0.2.99 198.51.100.77 203.0.113.70 ::1 fe80::1 2001:db8:1:2::3",
        "8.8.8.8 and 1.1.1.1 are everybody's",
        "v52.14.233.91, version = '52.14.233.91', lib==52.14.233.91, >= 52.14.233.91, app-52.14.233.91.jar",
        "see section 4.2.14.3 and 1.3.6.1.4.1.311 and 52.14.233.91.5, 300.1.2.99, 52.14.233.91-beta",
        "rows[2000::2] = std::fs::add",
        "token = '<|endoftext|>'; password = 'password'; secret = os.environ['SECRET']; API_KEY = 'api_key_header'",
        "class VideomtScaleBlock: pass",
    ],
)
def test_what_only_looks_like_a_secret_stays(text: str, secrets_cache: str) -> None:
    assert redacted(text, secrets_cache) == Redacted(content=text.encode())


def test_the_same_secret_has_the_same_placeholder_everywhere(secrets_cache: str) -> None:
    one = redacted(f"a = '{GITHUB}'\nb = '{GITHUB}'\n", secrets_cache).content.decode()
    placeholder = one.split("'")[1]
    assert one == f"a = '{placeholder}'\nb = '{placeholder}'\n"
    assert placeholder in redacted(f"# {AWS}\nother = '{GITHUB}'\n", secrets_cache).content.decode()
    different = redacted(f"a = '{GITHUB[:-1]}b'\n", secrets_cache).content.decode()
    assert placeholder not in different
    assert redacted(f"a = '{GITHUB}'\n", secrets_cache, b"another key").content.decode().split("'")[1] != placeholder


def test_addresses_are_numbered_within_a_file(secrets_cache: str) -> None:
    """A hash of one could be guessed: there are only four thousand million IP addresses."""
    content = redacted("jo@corp.net al@corp.net JO@corp.net 52.14.233.91 jo@corp.net", secrets_cache).content
    assert content == b"<EMAIL:1> <EMAIL:2> <EMAIL:1> <IP_ADDRESS:1> <EMAIL:1>"
    assert redacted("al@corp.net", secrets_cache, b"another key").content == b"<EMAIL:1>"


def test_a_secret_goes_wherever_it_stands(secrets_cache: str) -> None:
    text = "password = 'hunter2hunter2'\nprint('it is hunter2hunter2!')\n"
    it = redacted(text, secrets_cache)
    assert b"hunter2" not in it.content
    assert it.counts == {"ASSIGNED_SECRET": 2}


def test_overlapping_findings_leave_one_placeholder(secrets_cache: str) -> None:
    it = redacted("db = 'postgres://admin:s3cr3tPassw0rd@db.corp.net:5432/x'", secrets_cache)
    assert it.content.decode().count("<") == 1
    assert b"s3cr3t" not in it.content
    assert it.counts == {"GENERIC_CREDENTIAL_URI": 1}


def test_code_with_placeholders_still_parses(secrets_cache: str) -> None:
    code = f"""
'''By jo@corp.net.'''
token = "{GITHUB}"  # {AWS}
HOSTS = ["52.14.233.91", f"http://52.14.233.92:{{port}}"]
KEY = '''{pem()}'''
MAIL = "%s <al@corp.net>" % name
PASSWORD = b"Tr0ub4dor&3xyz"
"""
    it = redacted(code, secrets_cache)
    ast.parse(it.content)
    assert sum(it.counts.values()) == 8


def test_redacting_twice_changes_nothing(secrets_cache: str) -> None:
    once = redacted(f"'{GITHUB}' '{AWS}' jo@corp.net 52.14.233.91 password='Tr0ub4dor&3xyz'\n{pem()}", secrets_cache)
    assert redact(once.content, b"key", secrets_cache) == Redacted(content=once.content)


def test_compiled_rules_are_found_again(secrets_cache: str) -> None:
    compile_rules(secrets_cache)
    load_scanner.cache_clear()
    assert load_scanner(secrets_cache).rules.cache_status == "loaded"


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ("betterleaks.github-pat", "GITHUB_PAT"),
        ("veles.secrets/npmjsaccesstoken", "NPMJSACCESSTOKEN"),
        ("betterleaks.auth0-domain.1", "AUTH0_DOMAIN"),
        ("codelupe.ip-address.6", "IP_ADDRESS"),
    ],
)
def test_a_kind_is_a_rule_s_name_without_where_it_is_from(rule: str, kind: str) -> None:
    assert kind_of(rule) == kind


def test_every_rule_for_secrets_has_a_kind_fit_for_a_placeholder(secrets_cache: str) -> None:
    kinds = {kind_of(rule["id"]) for rule in load_scanner(secrets_cache).rules.metadata()}
    assert len(kinds) > 400
    assert all(kind.replace("_", "").isalnum() and kind == kind.upper() for kind in kinds)
    assert {"EMAIL", "IP_ADDRESS", "PRIVATE_KEY", "ASSIGNED_SECRET", "AWS_ACCESS_KEY_ID"} <= kinds


def test_a_share_and_a_number_of_secrets_are_too_much() -> None:
    rule = MaxRedacted(0.2)
    assert rule.check(Redacted(content=b"", share=0.2, secrets=MOST_SECRETS)) is None
    by_share = rule.check(Redacted(content=b"", counts={"EMAIL": 2}, share=0.25))
    assert by_share
    assert by_share.detail == "25% secrets and personal data, at most 20% are allowed"
    assert by_share.evidence == {"share": 0.25, "redactions": {"EMAIL": 2}}
    by_number = rule.check(Redacted(content=b"", secrets=MOST_SECRETS + 1))
    assert by_number
    assert by_number.detail == "101 different secrets, at most 100 are allowed"


@pytest.mark.parametrize(
    "line",
    ["mail a{}@b{}.com", "password = 'abcd{}efgh{}'", "{} 52.14.233.{}", "ghp_16C7e42F292c6912E7710c838347Ae{:06d}{}"],
)
def test_a_megabyte_of_secrets_is_refused_and_not_choked_on(line: str, secrets_cache: str) -> None:
    text = "\n".join(line.format(n, n % 256) for n in range(20_000))
    assert MaxRedacted(0.2).check(redacted(text, secrets_cache))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"))
        | st.sampled_from([GITHUB, AWS, pem(), "jo@corp.net", "52.14.233.91", "password='Tr0ub4dor&3xyz'", "'", "\n"]),
        max_size=8,
    ).map("".join)
)
def test_any_text_comes_out_as_text_without_what_was_found(secrets_cache: str, text: str) -> None:
    it = redacted(text, secrets_cache)
    it.content.decode()
    assert 0 <= it.share <= 1
    assert bool(it.counts) == (it.content != text.encode())
    assert sum(it.counts.values()) <= it.content.count(b"<")
    assert MaxRedacted(1).check(it) is None
