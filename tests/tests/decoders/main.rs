//! Every file of the fuzz corpus, and mutations of each, through the functions that
//! the fuzz targets call. It finds nothing that fuzzing would not; it keeps what was
//! found from coming back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[allow(
    unreachable_pub,
    reason = "a library to the fuzz targets, a module here"
)]
mod targets;

use std::path::Path;

/// Mutations of one file.
const MUTATIONS: u64 = 400;

/// A xorshift generator: the same bytes on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let most = u64::try_from(most.max(1)).unwrap();
        usize::try_from(self.0 % most).unwrap()
    }
}

/// Texts that mean something to one decoder or another.
const WORDS: [&str; 16] = [
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "-1",
    "1e999",
    "\\u0000",
    "?principal",
    "@id(\"",
    "\n---\n",
    "&& ",
    "18446744073709551616",
];

fn mutated(seed: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(data.len() + 1);
        let to = (at + numbers.below(12)).min(data.len());
        match numbers.below(4) {
            0 => drop(data.drain(at..to)),
            1 => drop(data.splice(at..at, WORDS.get(numbers.below(16)).unwrap().bytes())),
            2 => {
                let again: Vec<u8> = data.get(at..to).unwrap().to_vec();
                drop(data.splice(at..at, again));
            }
            _ => {
                let byte = u8::try_from(numbers.below(256)).unwrap();
                drop(data.splice(at..to.min(at + 1), [byte]));
            }
        }
    }
    data
}

fn replay(name: &str, target: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name);
    let mut files = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let seed = std::fs::read(entry.unwrap().path()).unwrap();
        files += 1;
        target(&seed);
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ files);
        for _ in 0..MUTATIONS {
            target(&mutated(&seed, &mut numbers));
        }
    }
    assert!(files > 0, "the corpus of {name} is empty");
}

#[test]
fn policies() {
    replay("policy", targets::policy);
}

#[test]
fn requests() {
    replay("request", targets::request);
}

#[test]
fn authzen() {
    replay("authzen", targets::authzen);
}

#[test]
fn proofs() {
    replay("proof", targets::proof);
}

#[test]
fn evaluations() {
    replay("eval", targets::eval);
}
