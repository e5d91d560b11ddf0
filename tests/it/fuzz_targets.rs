//! A short run of each fuzz target, without a fuzzer: the committed inputs as they are, and some thousands of mutations of them that are
//! the same every time. `scripts/fuzz` is the long run.

#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations
)]
#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[test]
fn every_target_has_a_program_and_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for (name, _) in targets::TARGETS {
        assert!(
            manifest.contains(&format!("\"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
        assert!(!seeds(name).is_empty(), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), targets::TARGETS.len());
}

#[test]
fn chunks() {
    smoke("chunks", 2000);
}

#[test]
fn amf() {
    smoke("amf", 5000);
}

#[test]
fn codec() {
    smoke("codec", 5000);
}

#[test]
fn flv() {
    smoke("flv", 2000);
}

#[test]
fn session() {
    smoke("session", 1000);
}

#[test]
fn client() {
    smoke("client", 1000);
}

#[test]
fn http() {
    smoke("http", 1000);
}

#[test]
fn ingest() {
    smoke("ingest", 200);
}

/// Runs the committed inputs of a target, and `count` mutations of them.
fn smoke(name: &str, count: usize) {
    let (_, run) = targets::TARGETS
        .iter()
        .find(|(other, _)| *other == name)
        .unwrap();
    let seeds = seeds(name);
    for seed in &seeds {
        run_or_keep(name, *run, seed);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..count {
        let mut input = random.pick(&seeds).clone();
        for _ in 0..=random.below(4) {
            random.mutate(&mut input, &seeds);
        }
        run_or_keep(name, *run, &input);
    }
}

/// A failure leaves its input behind.
fn run_or_keep(name: &str, run: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(input))) {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        std::fs::write(&path, input).unwrap();
        let text = panic
            .downcast_ref::<String>()
            .map_or("a fault", String::as_str);
        panic!(
            "{text}\nthe input is in {}; run it again with scripts/fuzz {name} {0}",
            path.display()
        );
    }
}

/// The committed inputs of a target, in the order of their names.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(name);
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// Xorshift: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn mutate(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len());
        let count = 1 + self.below(16);
        match self.below(8) {
            0 => input.truncate(at),
            1 => {
                let end = (at + count).min(input.len());
                input.drain(at..end);
            }
            2 => {
                let end = (at + count).min(input.len());
                input.extend_from_within(at..end);
            }
            3 => {
                let other = self.pick(seeds);
                let from = self.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            4 => input.insert(at, self.next() as u8),
            5 => input
                .iter_mut()
                .skip(at)
                .take(count)
                .for_each(|byte| *byte = 0xff),
            choice => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = match choice {
                        6 => *byte ^ (1 << self.below(8)),
                        _ => self.next() as u8,
                    };
                }
            }
        }
    }
}
