//! The side that answers.

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::UnixStream;

use super::message::{Answer, Request};
use super::socket;

/// Questions of those who share one socket.
#[derive(Debug)]
pub struct Questions {
    socket: UnixStream,
}

/// A question that waits for its answer. To drop it tells the asker that there is none.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub request: Request,
    reply: UnixStream,
}

impl Questions {
    /// Listens on one end of [`super::Broker::pair`].
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: socket::watch(socket)? })
    }

    /// The next question; what is none is left unanswered. May be dropped and called again.
    ///
    /// # Errors
    /// When everyone who could ask has gone.
    pub async fn next(&self) -> io::Result<Question> {
        loop {
            let (bytes, reply) = socket::receive(&self.socket).await?;
            if let (Some(request), Some(reply)) = (Request::parse(&bytes), reply)
                && let Ok(reply) = socket::watch(reply)
            {
                return Ok(Question { request, reply });
            }
        }
    }
}

impl Question {
    /// Answers, with the socket that was asked for if there is one.
    pub fn answer(self, answer: &Answer, connection: Option<&OwnedFd>) {
        // One who has gone needs no answer; a queue of one message is never full.
        let _ = socket::send(&self.reply, answer.to_string().as_bytes(), connection);
    }

    /// Returns when the asker has given up.
    pub async fn given_up(&self) {
        // Nothing is ever sent on it but the answer, so what can be read is its end.
        let _ = self.reply.readable().await;
    }
}
