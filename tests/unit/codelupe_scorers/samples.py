"""The same small program in each language that is parsed: a documented class with a branching method, a function."""

from __future__ import annotations

from codelupe import SourceFile

SAMPLES = {
    "Python": (
        "a.py",
        '''"""Stacks."""


class Stack:
    """A stack of numbers."""

    def push(self, number):
        """Put a number on top, if it is one."""
        if number is None or number < 0:
            for item in self.items:
                print(item)
        return number


def helper():
    return 1
''',
    ),
    "Go": (
        "a.go",
        """package a

// Stack is a stack of numbers.
type Stack struct{ items []int }

// Push puts a number on top, if it is one.
func (s *Stack) Push(number int) int {
	if number == 0 || number < 0 {
		for _, item := range s.items {
			println(item)
		}
	}
	return number
}

func helper() int {
	return 1
}
""",
    ),
    "Rust": (
        "a.rs",
        """//! Stacks.

/// A stack of numbers.
#[derive(Debug)]
pub struct Stack { items: Vec<i32> }

impl Stack {
    /// Puts a number on top, if it is one.
    #[inline]
    pub fn push(&self, number: i32) -> i32 {
        if number == 0 || number < 0 {
            for item in &self.items {
                println!("{}", item);
            }
        }
        number
    }
}

fn helper() -> i32 {
    1
}
""",
    ),
    "Dart": (
        "a.dart",
        """/// A stack of numbers.
class Stack {
  /// Puts a number on top, if it is one.
  @override
  int push(int number) {
    if (number == 0 || number < 0) {
      for (final item in items) {
        print(item);
      }
    }
    return number;
  }
}

int helper() {
  return 1;
}
""",
    ),
    "JavaScript": (
        "a.js",
        """/** A stack of numbers. */
export class Stack {
  /** Puts a number on top, if it is one. */
  push(number) {
    if (number === 0 || number < 0) {
      for (const item of this.items) {
        console.log(item);
      }
    }
    return number;
  }
}

const helper = () => {
  return 1;
};
""",
    ),
    "TypeScript": (
        "a.ts",
        """/** A stack of numbers. */
export class Stack {
  /** Puts a number on top, if it is one. */
  push(number: number): number {
    if (number === 0 || number < 0) {
      for (const item of this.items) {
        console.log(item);
      }
    }
    return number;
  }
}

const helper = (): number => {
  return 1;
};
""",
    ),
}
LANGUAGES = sorted(SAMPLES)

NASTY = {
    "open brackets": "(" * 50_000,
    "nested brackets": "[" * 25_000 + "]" * 25_000,
    "nested blocks": "if(a){" * 10_000,
    "deep indentation": "".join(" " * min(n, 400) + "if a:\n" for n in range(300)),
    "a chain of conditions": "a&&" * 20_000,
    "a chain of conditionals": "(x if y else " * 5_000,
    "a chain of members": "a." * 30_000,
    "decorations": "@a\n" * 8_000 + "fn f(){}" * 4_000,
    "one line": "a" * 60_000,
    "comments": "#\n" * 15_000 + "//\n" * 10_000,
    "comments in one line": "/**/ " * 12_000,
    "triggers": "eval(unsafe md5(pickle.load(x)) " * 2_000,
    "nested triggers": "eval(a, " * 8_000,
    "names": "".join(f"let a{n} = {n};\n" for n in range(3_500)),
    "nested templates": "`${" * 20_000,
}


def source(content: str, language: str | None = "Python", path: str = "a") -> SourceFile:
    return SourceFile(path=path, content=content, language=language, licence=None)


def sample(language: str) -> SourceFile:
    path, content = SAMPLES[language]
    return source(content, language, path)
