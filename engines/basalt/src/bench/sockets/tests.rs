//! The client against echo servers that take their time, and that hang up.

use super::*;
use std::net::TcpListener;

/// Questions of `size` bytes; the answer is the same bytes.
struct Echo {
    left: usize,
    size: usize,
    heard: Vec<usize>,
}

impl Talk for Echo {
    fn ask(&mut self, _: usize) -> Option<Question> {
        self.left = self.left.checked_sub(1)?;
        Some(Question { head: vec![1; 3], shared: Some(vec![2; self.size].into()), shared_from: 3 })
    }
    fn hear(&mut self, connection: usize, bytes: &[u8]) -> Result<Answer, String> {
        self.heard[connection] += bytes.len();
        if self.heard[connection] < self.size {
            return Ok(Answer::Partial);
        }
        assert_eq!(std::mem::take(&mut self.heard[connection]), self.size);
        let bytes = self.size as u64;
        Ok(Answer::Whole { bytes, keep: true })
    }
}

/// Echoes `size` bytes at a time, and hangs up after `answers` of them.
fn echo_server(size: usize, answers: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut stream, mut bytes) = (stream, vec![0; size]);
                for _ in 0..answers {
                    if stream.read_exact(&mut bytes).is_err() {
                        return;
                    }
                    assert!(bytes[..3] == [1; 3] && bytes[3..].iter().all(|&b| b == 2));
                    let _ = stream.write_all(&bytes);
                }
            });
        }
    });
    addr
}

fn echo(size: usize, answers: usize, rate: Option<u64>) -> Duration {
    let load = Load { addr: echo_server(size, answers), connections: 4, rate };
    let mut talk = Echo { left: 40, size, heard: vec![0; 4] };
    let phase = Phase::default();
    let begin = Instant::now();
    drive(&load, &mut talk, &phase, &mut Recorder::new(phase.clone())).expect("all answered");
    assert_eq!(talk.left, 0);
    begin.elapsed()
}

#[test]
fn small_and_large_questions_are_answered_whole() {
    echo(64, usize::MAX, None);
    echo(3 << 20, usize::MAX, None);
}

#[test]
fn a_server_that_hangs_up_between_answers_is_asked_again() {
    echo(64, 3, None);
}

#[test]
fn a_rate_is_kept() {
    let took = echo(64, usize::MAX, Some(200));
    assert!((0.19..1.0).contains(&took.as_secs_f64()), "40 at 200/s took {took:?}");
}

#[test]
fn a_late_question_counts_from_when_it_was_due() {
    let start = Instant::now();
    let mut schedule = Schedule::new(start, 1000);
    let late = start + Duration::from_millis(2);
    let due: Vec<_> = std::iter::from_fn(|| schedule.take_due(late)).collect();
    assert_eq!(due, [0, 1, 2].map(|ms| start + Duration::from_millis(ms)));
}
