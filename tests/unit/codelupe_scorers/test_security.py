from __future__ import annotations

import pytest

from codelupe_scorers.risks import RISKS, query_of
from codelupe_scorers.security import Security
from tests.unit.codelupe_scorers.samples import LANGUAGES, sample, source

DANGEROUS = [
    ("Python", "eval", "eval(text)\n"),
    ("Python", "eval", "exec(f'import {name}')\n"),
    ("Python", "shell", "os.system('rm ' + name)\n"),
    ("Python", "shell", "subprocess.run(command, shell=True)\n"),
    ("Python", "sql", "cursor.execute('select a from b where c = %s' % value)\n"),
    ("Python", "sql", "cursor.execute(f'DELETE FROM b WHERE c = {value}')\n"),
    ("Python", "sql", "cursor.execute('insert into b values ({})'.format(value))\n"),
    ("Python", "tls", "requests.get(url, verify=False)\n"),
    ("Python", "tls", "context.check_hostname = False\n"),
    ("Python", "tls", "context.verify_mode = ssl.CERT_NONE\n"),
    ("Python", "deserialization", "pickle.loads(data)\n"),
    ("Python", "deserialization", "yaml.load(data)\n"),
    ("Python", "weak-hash", "hashlib.md5(data)\n"),
    ("Python", "temporary-name", "tempfile.mktemp()\n"),
    ("Go", "shell", 'func f() { exec.Command("sh", "-c", name) }\n'),
    ("Go", "sql", 'func f() { db.Query("select a from b where c = " + name) }\n'),
    ("Go", "sql", 'func f() { db.QueryRowContext(ctx, fmt.Sprintf("select a from b where c = %s", name)) }\n'),
    ("Go", "tls", "var c = &tls.Config{InsecureSkipVerify: true}\n"),
    ("Go", "tls", "func f() { c.InsecureSkipVerify = true }\n"),
    ("Go", "weak-hash", "func f() { h := md5.New() }\n"),
    ("Go", "unsafe", "func f() { p := unsafe.Pointer(q) }\n"),
    ("Rust", "unsafe", "fn f() { unsafe { g() } }\n"),
    ("Rust", "unsafe", "unsafe impl Send for A {}\n"),
    ("Rust", "transmute", "fn f() { let a: u8 = mem::transmute(b); }\n"),
    ("Rust", "transmute", "fn f() { let a = mem::transmute::<i8, u8>(b); }\n"),
    ("Rust", "shell", 'fn f() { Command::new("sh").arg("-c").arg(line); }\n'),
    ("Rust", "sql", 'fn f() { db.execute(&format!("delete from b where c = {}", c)); }\n'),
    ("Rust", "tls", "fn f() { builder.danger_accept_invalid_certs(true); }\n"),
    ("Dart", "shell", "void f() { Process.run(name, [], runInShell: true); }\n"),
    ("Dart", "sql", "void f() { db.rawQuery('select a from b where c = $name'); }\n"),
    ("Dart", "tls", "void f() { client.badCertificateCallback = (a, b, c) => true; }\n"),
    ("JavaScript", "eval", "eval(text);\n"),
    ("JavaScript", "eval", "new Function('a', body);\n"),
    ("JavaScript", "shell", "const cp = require('child_process');\ncp.exec(`ls ${name}`);\n"),
    ("JavaScript", "sql", "db.query('select a from b where c = ' + name);\n"),
    ("JavaScript", "markup", "element.innerHTML = text;\n"),
    ("JavaScript", "markup", "document.write(text);\n"),
    ("JavaScript", "tls", "request({ rejectUnauthorized: false });\n"),
    ("JavaScript", "tls", "process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';\n"),
    ("JavaScript", "weak-hash", "crypto.createHash('md5');\n"),
    ("TypeScript", "sql", "db.query(`select a from b where c = ${name}`);\n"),
]
HARMLESS = [
    ("Python", "eval('1 + 1')\n"),
    ("Python", "# eval(text)\nnote = 'eval(text)'\n"),
    ("Python", "model.eval(data)\n"),
    ("Python", "subprocess.run(['ls', name])\n"),
    ("Python", "subprocess.run('ls | wc', shell=True)\n"),
    ("Python", "cursor.execute('select a from b where c = %s', (value,))\n"),
    ("Python", "cursor.execute('select a from b')\n"),
    ("Python", "requests.get(url, verify=True)\n"),
    ("Python", "yaml.load(data, Loader=yaml.SafeLoader)\nyaml.safe_load(data)\n"),
    ("Go", 'func f() { exec.Command("ls", name); db.Query("select a from b where c = ?", name) }\n'),
    ("Go", "// The memory lives as long as q.\nvar p = unsafe.Pointer(q)\n"),
    ("Rust", "fn f() {\n    // SAFETY: g has no conditions.\n    unsafe { g() }\n}\n"),
    ("Rust", 'fn f() { Command::new("ls").arg("-c").arg("a"); }\n'),
    ("Dart", "void f() { db.rawQuery('select a from b where c = ?', [name]); print('select $a'); }\n"),
    ("JavaScript", "element.textContent = text;\nelement.innerHTML = '';\npattern.exec(text);\n"),
    ("JavaScript", "db.query('select a from b where c = ?', [name]);\ncrypto.createHash('sha256');\n"),
]


def reasons(content: str, language: str) -> tuple[str, ...]:
    score = Security(1).score(source(content, language))
    assert score is not None
    assert (score.value == 100) == score.reasons[0].startswith("none of")
    return score.reasons


def points(content: str, language: str = "Python") -> float:
    score = Security(1).score(source(content, language))
    assert score is not None
    return score.value


@pytest.mark.parametrize(("language", "name", "content"), DANGEROUS)
def test_each_dangerous_pattern_is_found_with_its_name_and_row(language: str, name: str, content: str) -> None:
    [reason] = reasons("\n\n" + content, language)
    assert reason.startswith(f"{name}: ")
    assert reason.endswith(f"row {2 + content.count(chr(10))}")


@pytest.mark.parametrize(("language", "content"), HARMLESS)
def test_what_only_looks_like_one_is_left_alone(language: str, content: str) -> None:
    [reason] = reasons(content, language)
    assert reason.startswith("none of")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sound_program_has_all_points(language: str) -> None:
    score = Security(1).score(sample(language))
    assert score is not None
    assert score.value == 100


def test_every_pattern_of_every_language_is_shown_by_an_example() -> None:
    shown = {(language, name) for language, name, _ in DANGEROUS}
    wanted = {(language, risk.name) for language, risks in RISKS.items() for risk in risks}
    same = {(language, name) for language, name in wanted if language in {"TypeScript", "TSX"}}
    assert wanted - same <= shown


@pytest.mark.parametrize("language", sorted(RISKS))
def test_every_query_fits_the_installed_grammar_and_captures_the_place(language: str) -> None:
    for risk in RISKS[language]:
        query = query_of(risk, language)
        assert "risk" in {query.capture_name(number) for number in range(query.capture_count)}


def test_the_same_pattern_again_costs_half_as_much_each_time() -> None:
    series = [points("hashlib.md5(a)\n" * times) for times in (0, 1, 2, 3, 60)]
    assert series[:4] == [100, 85, 77.5, pytest.approx(73.8, abs=0.1)]
    assert series[4] == 70


def test_different_patterns_add_up_to_no_points_at_most() -> None:
    assert points("eval(a)\nos.system(b)\npickle.load(c)\n") == 0


def test_many_places_are_counted_not_all_listed() -> None:
    [reason] = reasons("eval(text)\n" * 30, "Python")
    assert reason.endswith("rows 1, 2, 3, 4, 5 and 25 more")


def test_without_a_tree_it_does_not_apply() -> None:
    assert Security(1).score(source("eval(x)", "COBOL")) is None
