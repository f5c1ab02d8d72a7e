//! A gateway that is killed and started again, on the same addresses and with the same store. Must not know its
//! clients.

use crate::common::own_loopback;
use crate::common::program::{Program, pulsegate};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the gateway's process begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// As it is.
    Plain,
    /// A write above the limit of a file's size fails, and is not a signal.
    SurvivesLimits,
}

pub(crate) struct Victim {
    program: Option<Program>,
    start: Start,
    config: PathBuf,
    /// More flags for the next start.
    pub(crate) flags: Vec<&'static str>,
    /// Where it listens: with the usual window, and with a small one.
    pub(crate) addresses: [SocketAddr; 2],
    pub(crate) data_dir: PathBuf,
}

impl Victim {
    /// On addresses of its own: `which` tells the tests of one process apart.
    pub(crate) fn start(which: u8, directory: &Path, start: Start) -> Self {
        // Both are taken before either is let go.
        let free = [(); 2].map(|()| TcpListener::bind(own_loopback(which)).unwrap());
        let addresses = free.map(|listener| listener.local_addr().unwrap());
        let (config, data_dir) = (directory.join("pulsegate.toml"), directory.join("data"));
        std::fs::write(&config, configuration(addresses, &data_dir)).unwrap();
        let mut victim = Self { program: None, start, config, flags: Vec::new(), addresses, data_dir };
        victim.revive();
        victim
    }

    /// Starts it again, and waits until it listens.
    #[track_caller]
    pub(crate) fn revive(&mut self) {
        self.begin();
        self.program.as_ref().unwrap().address();
    }

    /// Starts it again, and doesn't wait.
    pub(crate) fn begin(&mut self) {
        assert!(self.program.is_none(), "it lives");
        let config = self.config.to_str().unwrap();
        let mut command = match self.start {
            Start::Plain => pulsegate(&["serve", "--config", config]),
            Start::SurvivesLimits => {
                let mut command = Command::new("sh");
                command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_pulsegate")]);
                command.args(["serve", "--config", config]);
                command
            }
        };
        command.args(&self.flags);
        self.program = Some(Program::start(command));
    }

    pub(crate) fn id(&self) -> u32 {
        self.program.as_ref().unwrap().id()
    }

    /// Kills it, and looks whether it was well until then.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        let mut program = self.program.take().expect("it lives");
        assert!(program.is_running(), "it ended by itself:\n{}", program.stderr());
        let ended = program.kill();
        assert!(!ended.complaints.iter().any(|line| line.contains("panicked")), "{ended:#?}");
    }
}

fn configuration([usual, small]: [SocketAddr; 2], data_dir: &Path) -> String {
    format!(
        r#"
        [store]
        data_dir = "{}"
        wal_bytes = "256KiB"

        [[listener]]
        listen = "{usual}"
        protocol = "auto"
        sink = "store"

        [[listener]]
        listen = "{small}"
        protocol = "auto"
        sink = "store"
        message_bytes_max = "1KiB"
        window_messages_max = 3
        window_bytes_max = "1KiB"
        "#,
        data_dir.display()
    )
}
