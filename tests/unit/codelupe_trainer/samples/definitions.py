"""Code with definitions of many kinds, and helpers for the formats that look for them."""

from __future__ import annotations

from codelupe import Sample

PYTHON = '''"""Accounts."""

from __future__ import annotations

import abc


class Account(abc.ABC):
    """An account with a balance that never falls below zero."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.balance = 0

    @property
    # Told by hand.
    @abc.abstractmethod
    async def interest(self) -> float:
        """The yearly interest that this kind of account bears."""
        raise NotImplementedError(
            "no interest"
        )

    @trace(
        level=3,
    )
    async def pay(
        self,
        amount: int,
    ) -> int:  # in cents
        # It is checked first.
        """Pay the amount in and return the new balance of the account.

        Raises:
            ValueError: it is negative.
        """

        def check() -> None:
            if amount < 0:
                raise ValueError(amount)

        check()
        self.balance += amount
        return self.balance

    def rate(self): return 3

    def todo(self):
        """TODO: write it down properly some day."""
        first = 1
        return first
'''
TYPESCRIPT = """import { Store } from "./store";

/**
 * Keeps the newest values that were put in, up to a limit.
 */
@Injectable()
export class Cache<K, V extends object> {
  private values = new Map<K, V>();

  get(key: K): V;
  get(key: K, fallback: V): V;
  /** Looks a value up, and falls back to the other one. */
  get(key: K, fallback?: V): V {
    const found = this.values.get(key);
    return found ?? fallback!;
  }

  abstract drop(key: K): void;

  onChange = async (key: K) => {
    const value = this.values.get(key);
    await this.store.save(key, value);
  };
}

// Not for tools.
export const total = (values: number[]) => {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
};
"""
CODE = {
    "Python": PYTHON,
    "TypeScript": TYPESCRIPT,
    "JavaScript": """const fs = require("fs");

/**
 * Reads the configuration, and fills in what it lacks.
 * @param {string} path
 */
module.exports.load = async function (path) {
  const text = await fs.promises.readFile(path);
  return { ...defaults, ...JSON.parse(text) };
};

function* count(limit) {
  for (let n = 0; n < limit; n++) {
    yield n;
  }
}

const handlers = {
  open: function (file) {
    files.push(file);
    return files.length;
  },
};
""",
    "TSX": """import React from "react";

/** Shows a list of names, each with its number before it. */
export function Names({ names }: { names: string[] }) {
  const rows = names.map((name, at) => <li key={at}>{name}</li>);
  return <ul className="names">{rows}</ul>;
}
""",
    "Go": """package stack

import (
	"errors"
)

// Stack holds numbers, of which only the last one can be taken.
type Stack[T any] struct {
	items []T
	size  int
}

// Pop takes the number on top, or says that there is none.
//
//go:noinline
func (s *Stack[T]) Pop() (T, error) {
	if s.size == 0 {
		return *new(T), errors.New("empty")
	}
	s.size--
	return s.items[s.size], nil
}

// Sizer tells how many numbers are kept at present.
type Sizer interface {
	Size() int
	Limit() int
}
""",
    "Rust": """use std::fmt;

/// A stack of numbers, of which only the last one can be taken.
#[derive(Debug)]
pub struct Stack<T> {
    items: Vec<T>,
    size: usize,
}

impl<T> Stack<T> {
    /// Takes the number on top, if there is one at all.
    #[inline]
    pub fn pop(&mut self) -> Option<T>
    where
        T: Clone,
    {
        self.size -= 1;
        self.items.pop()
    }
}

fn later() -> u8 {
    todo!()
}
""",
    "Dart": """import 'dart:async';

/// A stack of numbers, of which only the last one can be taken.
@immutable
class Stack<T> extends Base {
  final List<T> items;

  /// Takes the number on top, and waits if there is none.
  @override
  Future<T> pop() async {
    await ready;
    return items.removeLast();
  }

  int get size {
    final size = items.length;
    return size;
  }
}

extension Sums on Stack<int> {
  int sum() => items.reduce((a, b) => a + b);
  int twice() => 2 * sum();
}
""",
}
"""By language, as the grammars are named."""


def shown(sample: Sample) -> str:
    """What the prompt shows below the instruction."""
    instruction, blank, code = sample.prompt.partition("\n\n")
    assert instruction
    assert blank
    return code


def rows_in_order(text: str, content: str) -> bool:
    """Whether the text consists of rows of the content in their order, and of blank ones."""
    rows = iter(content.split("\n"))
    return all(any(row.rstrip() == line.rstrip() for row in rows) for line in text.split("\n") if line.strip())
