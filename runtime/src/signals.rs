//! Signals as values: blocked in every thread, awaited by one. Called once by the node before it starts any thread.

use std::io;
use std::sync::mpsc::Sender;

/// What the operator asks of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT: drain and exit; the second one exits at once.
    Stop,
    /// HUP: reload.
    Reload,
    /// USR1: open log files anew, which somebody has moved away.
    Reopen,
}

/// Blocks TERM, INT, HUP, USR1 and PIPE for the calling thread and all it starts from here on, and starts the thread that turns
/// them into messages.
pub fn forward<T: Send + 'static>(
    to: Sender<T>,
    wrap: impl Fn(Signal) -> T + Send + 'static,
) -> io::Result<()> {
    // SAFETY: `set` is a plain out-parameter that sigemptyset initialises before it is read.
    let set = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGPIPE] {
            libc::sigaddset(&mut set, signal);
        }
        let failed = libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        set
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        loop {
            let mut number = 0;
            // SAFETY: `set` was initialised above and `number` is a valid out-parameter.
            let failed = unsafe { libc::sigwait(&set, &mut number) };
            let signal = match number {
                _ if failed != 0 => continue,
                libc::SIGHUP => Signal::Reload,
                libc::SIGUSR1 => Signal::Reopen,
                libc::SIGPIPE => continue,
                _ => Signal::Stop,
            };
            if to.send(wrap(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
