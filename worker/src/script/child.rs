//! The process that compiles one script for another: this same program, started with
//! [`COMPILE_COMMAND`]. It bounds itself before it reads a byte of the source, and ends with its
//! answer; whatever the source does to the parser, the transformer or the engine, it does it here
//! and to nobody else.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::bytecode::Bytecode;
use super::position::{Map, Position};
use super::{Compiled, MAX_SOURCE_BYTES, ScriptProblem, compile};

/// The argument that makes the program a compiler of one script. For the program itself, not for
/// people.
pub const COMPILE_COMMAND: &str = "compile-script";

/// Processor time that compiling may take, in seconds. The longest honest source takes a tenth of
/// one.
pub(super) const CPU_SECONDS: u64 = 3;
/// Memory that compiling may use beside the program and the stack of its thread. An ordinary source
/// of the longest length takes some 40 MiB, the engine's part (at most 32 MiB) included.
pub(super) const HEAP_BYTES: usize = 192 * 1024 * 1024;
/// Address space of the program itself, its libraries and its first stack.
#[cfg(target_os = "linux")]
const PROGRAM_BYTES: usize = 128 * 1024 * 1024;
/// The head of an answer, at most: the problem with a source, in words.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The longest answer that is read from a child, in bytes: its head, the bytecode and the places.
pub(super) const MAX_ANSWER_BYTES: usize =
    MAX_HEAD_BYTES + compile::MAX_BYTECODE_BYTES + compile::MAX_PLACES * PLACE_BYTES;
/// A place in the code and its place in the source: four numbers of four bytes.
const PLACE_BYTES: usize = 16;

/// The first line of an answer, as JSON. After it come the bytecode and the places.
#[derive(Debug, Serialize, Deserialize)]
enum Head {
    Compiled { bytecode: usize, places: usize },
    Refused(ScriptProblem),
}

/// Compiles the source on standard input and writes the result to standard output.
#[must_use]
pub fn compile_for_parent() -> ExitCode {
    match limit().and_then(|()| answer()) {
        Ok(()) => ExitCode::SUCCESS,
        // The parent knows by the status that there is no answer.
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer() -> io::Result<()> {
    let mut source = String::new();
    io::stdin()
        .take(MAX_SOURCE_BYTES as u64 + 1)
        .read_to_string(&mut source)?;
    let answer = write(&compile::compile(&source))?;
    let mut out = io::stdout().lock();
    out.write_all(&answer)?;
    out.flush()
}

#[cfg(target_os = "linux")]
fn limit() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, nice, setrlimit};

    let most = |value: u64| Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    let space = (PROGRAM_BYTES + HEAP_BYTES + compile::STACK_BYTES) as u64;
    setrlimit(Resource::As, most(space))?;
    // The first limit ends the process with a signal of its own, by which the parent knows why.
    setrlimit(
        Resource::Cpu,
        Rlimit {
            current: Some(CPU_SECONDS),
            maximum: Some(CPU_SECONDS + 1),
        },
    )?;
    setrlimit(Resource::Core, most(0))?;
    // Deliveries come first. Where it is not allowed, the process compiles with the priority that
    // it has.
    let _ = nice(super::call::NICE);
    Ok(())
}

/// Elsewhere the parent's limit of time is the only one.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail on Linux")]
fn limit() -> io::Result<()> {
    Ok(())
}

fn write(compiled: &Result<Compiled, ScriptProblem>) -> io::Result<Vec<u8>> {
    let head = match compiled {
        Ok(compiled) => Head::Compiled {
            bytecode: compiled.bytecode.bytes(),
            places: compiled.map.pairs().len(),
        },
        Err(problem) => Head::Refused(problem.clone()),
    };
    let mut answer = serde_json::to_vec(&head)?;
    answer.push(b'\n');
    if let Ok(compiled) = compiled {
        answer.extend_from_slice(compiled.bytecode.as_bytes());
        for (code, written) in compiled.map.pairs() {
            for number in [code.line, code.column, written.line, written.column] {
                answer.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
    Ok(answer)
}

/// Reads an answer; `None` where it is not one, or incomplete.
pub(super) fn read(answer: &[u8]) -> Option<Result<Compiled, ScriptProblem>> {
    let end = answer.iter().position(|byte| *byte == b'\n')?;
    let (head, rest) = answer.split_at(end);
    match serde_json::from_slice(head).ok()? {
        Head::Refused(problem) => Some(Err(problem)),
        Head::Compiled { bytecode, places } => {
            let (bytecode, map) = rest.get(1..)?.split_at_checked(bytecode)?;
            if map.len() != places * PLACE_BYTES {
                return None;
            }
            let map = Map::new(map.chunks_exact(PLACE_BYTES).map(place));
            Some(Ok(Compiled::new(
                Bytecode::from_child(bytecode.to_vec()),
                map,
            )))
        }
    }
}

fn place(bytes: &[u8]) -> (Position, Position) {
    let number = |at: usize| {
        bytes[at..at + 4]
            .iter()
            .rev()
            .fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte))
    };
    (
        Position {
            line: number(0),
            column: number(4),
        },
        Position {
            line: number(8),
            column: number(12),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let source = "type A = 1;\nexport default (a: A) => a;\n";
        let compiled = compile::compile(source).unwrap();
        let answer = write(&Ok(compile::compile(source).unwrap())).unwrap();
        let read_back = read(&answer).unwrap().unwrap();
        assert_eq!(read_back.bytecode.as_bytes(), compiled.bytecode.as_bytes());
        assert_eq!(read_back.map.pairs(), compiled.map.pairs());
        assert!(!compiled.map.pairs().is_empty());
        for cut in [0, 5, answer.len() - 1] {
            assert!(read(&answer[..cut]).is_none(), "{cut}");
        }
        let problem = compile::compile("let a: = 1").unwrap_err();
        assert_eq!(
            read(&write(&Err(problem.clone())).unwrap())
                .unwrap()
                .unwrap_err(),
            problem
        );
    }
}
