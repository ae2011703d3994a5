//! Messages between the processes of the runner: JSON frames over a Unix stream socket, with open file
//! descriptors travelling beside them (SCM_RIGHTS).
//!
//! A frame is a big-endian `u32` length, one byte that counts descriptors, and the JSON. Frames above
//! [`FRAME_LIMIT`] and more than [`DESCRIPTOR_LIMIT`] descriptors are refused on both ends.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// The largest frame: manifests of a whole mesh travel in one.
const FRAME_LIMIT: usize = 64 << 20;
/// Descriptors per frame: a pod's log pipes and listeners.
const DESCRIPTOR_LIMIT: usize = 64;
const HEADER: usize = 5;

/// One end of a connection.
pub(crate) struct Channel {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
}

/// The sending half; clones share the connection and never interleave frames.
#[derive(Clone)]
pub(crate) struct Sender {
    socket: Rc<UnixStream>,
    turn: Rc<Mutex<()>>,
}

/// The receiving half. Dropping a pending [`Receiver::receive`] loses nothing: what was read stays in the buffer.
pub(crate) struct Receiver {
    socket: Rc<UnixStream>,
    buffer: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Channel {
    /// Takes a connected stream socket; must be called inside a tokio runtime.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let socket = Rc::new(UnixStream::from_std(socket)?);
        let sender = Sender { socket: Rc::clone(&socket), turn: Rc::new(Mutex::new(())) };
        let receiver = Receiver { socket, buffer: Vec::new(), descriptors: VecDeque::new() };
        Ok(Self { sender, receiver })
    }
}

impl Sender {
    pub(crate) async fn send<M: Serialize>(&self, message: &M) -> io::Result<()> {
        self.send_with(message, &[]).await
    }

    /// Sends a message with descriptors, of which the receiver gets its own copies.
    pub(crate) async fn send_with<M: Serialize>(
        &self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let frame = encode(message, descriptors.len())?;
        let _turn = self.turn.lock().await;
        let mut sent = 0;
        while sent < frame.len() {
            // The descriptors go with the first byte, hence only once.
            let attached = if sent == 0 { descriptors } else { &[] };
            sent += self
                .socket
                .async_io(Interest::WRITABLE, || send_part(&self.socket, &frame[sent..], attached))
                .await?;
        }
        Ok(())
    }
}

impl Receiver {
    /// The next message with its descriptors; `None` when the other end has closed.
    pub(crate) async fn receive<M: DeserializeOwned>(&mut self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        loop {
            if let Some(message) = self.take_frame()? {
                return Ok(Some(message));
            }
            let (bytes, descriptors) =
                self.socket.async_io(Interest::READABLE, || receive_part(&self.socket)).await?;
            if bytes.is_empty() {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            self.buffer.extend_from_slice(&bytes);
            self.descriptors.extend(descriptors);
        }
    }

    fn take_frame<M: DeserializeOwned>(&mut self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let Some((header, rest)) = self.buffer.split_at_checked(HEADER) else { return Ok(None) };
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let count = usize::from(header[4]);
        if length > FRAME_LIMIT || count > DESCRIPTOR_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "oversized frame"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let message = serde_json::from_slice(&rest[..length])?;
        if self.descriptors.len() < count {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame came without its descriptors"));
        }
        self.buffer.drain(..HEADER + length);
        Ok(Some((message, self.descriptors.drain(..count).collect())))
    }
}

fn encode<M: Serialize>(message: &M, descriptors: usize) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let (Ok(length), Ok(count)) = (u32::try_from(body.len()), u8::try_from(descriptors)) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "frame too large"));
    };
    if body.len() > FRAME_LIMIT || descriptors > DESCRIPTOR_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "frame too large"));
    }
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.push(count);
    frame.extend_from_slice(&body);
    Ok(frame)
}

fn send_part(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

fn receive_part(socket: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; 64 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket.as_fd(),
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    bytes.truncate(received.bytes);
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    Ok((bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn a_message_larger_than_the_socket_buffer_arrives_with_its_descriptors() {
        let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
        let (left, mut right) = (Channel::new(left.into()).unwrap(), Channel::new(right.into()).unwrap());
        let (mut reader, writer) = io::pipe().unwrap();
        let text = "x".repeat(3 << 20);
        let descriptors = [writer.as_fd()];

        let (sent, received) =
            tokio::join!(left.sender.send_with(&text, &descriptors), right.receiver.receive::<String>());

        sent.unwrap();
        let (message, descriptors) = received.unwrap().unwrap();
        assert_eq!(message, text);
        drop(writer);
        io::Write::write_all(&mut std::fs::File::from(descriptors.into_iter().next().unwrap()), b"through")
            .unwrap();
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "through");
    }

    #[tokio::test]
    async fn two_messages_in_one_read_stay_two_and_the_end_is_told_apart() {
        let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
        let (left, mut right) = (Channel::new(left.into()).unwrap(), Channel::new(right.into()).unwrap());
        left.sender.send(&1_u32).await.unwrap();
        left.sender.send(&2_u32).await.unwrap();
        drop(left);

        assert_eq!(right.receiver.receive::<u32>().await.unwrap().unwrap().0, 1);
        assert_eq!(right.receiver.receive::<u32>().await.unwrap().unwrap().0, 2);
        assert!(right.receiver.receive::<u32>().await.unwrap().is_none());
    }
}
