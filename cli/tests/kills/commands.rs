//! The clients that run in processes of their own, as commands. Must not know what they are fed.

use crate::common::program::interpreter;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// The gateway's own client, with its outbox on disk.
pub(crate) fn connect(address: SocketAddr, id: &str, outbox: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulsegate"));
    command.args(["connect", &address.to_string(), "--id", id, "--outbox"]).arg(outbox);
    command
}

/// Which of the two clients in Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Python {
    Threads,
    Asyncio,
}

/// A client in Python, with its outbox on disk or in memory; `None` where there is no Python.
pub(crate) fn python(which: Python, address: SocketAddr, id: &str, outbox: Option<&Path>) -> Option<Command> {
    let mut command = Command::new(interpreter()?);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONPATH", here.join("../clients/python"));
    command.arg(here.join("tests/kills/driver.py"));
    command.arg(match which {
        Python::Threads => "threads",
        Python::Asyncio => "asyncio",
    });
    command.args([&address.ip().to_string(), &address.port().to_string(), id]).args(outbox);
    Some(command)
}
