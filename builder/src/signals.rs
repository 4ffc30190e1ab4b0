//! SIGINT and SIGTERM while an image is built: what an engine holds by then has to be removed.

use std::fmt;
use std::io;
use std::pin::pin;

use futures_util::future::{Either, select};
use tokio::signal::unix::{self, SignalKind};

/// What asked for an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, as Ctrl-C sends it.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// Its number (`signal(7)`): by custom, 128 more is the exit status of what it ended.
    pub fn number(self) -> u8 {
        match self {
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// Both signals, which end nothing by themselves any more.
pub(crate) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
        })
    }

    /// The result of the work, or the signal that came first; the work is dropped then.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Signal> {
        let came = async {
            let interrupt = pin!(self.interrupt.recv());
            let terminate = pin!(self.terminate.recv());
            match select(interrupt, terminate).await {
                Either::Left(_) => Signal::Interrupt,
                Either::Right(_) => Signal::Terminate,
            }
        };
        match select(pin!(work), pin!(came)).await {
            Either::Left((done, _)) => Ok(done),
            Either::Right((signal, _)) => Err(signal),
        }
    }
}
