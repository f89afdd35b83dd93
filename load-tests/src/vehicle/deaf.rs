//! A vehicle that sends and never reads: a broken client, or a network that has lost one direction.
//!
//! Before it is measured it sends as fast as the network takes, until its window is closed and the server has
//! reached its bounds; while it is measured it sends what is due. It keeps nothing and expects no ack, and its
//! records are in no count but their own.

use super::{End, MAX_BACKLOG, Maker, Vehicle};
use crate::plan::Phase;
use crate::socket::Socket;
use crate::tally::Count;

/// Enough for the network to take at once.
const BURST: usize = 16 * 1024;

impl Vehicle {
    pub(super) async fn shout(&mut self, mut socket: Socket) -> End {
        loop {
            self.utter(&mut socket);
            if self.is_over() {
                self.lane.tally.add(Count::Closed, 1);
                return if self.lane.phase.get() == Phase::Parked { End::Parked } else { End::Finished };
            }
            let is_sending = socket.backlog() > 0;
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                sent = socket.send(), if is_sending => if let Err(error) = sent {
                    self.lane.tally.add(Count::DeafEnded, 1);
                    return End::Lost(error);
                },
            }
            // Without acks to wait for, a server that takes everything would never let anybody else have the thread.
            tokio::task::yield_now().await;
        }
    }

    /// Queues what is to be sent now; what the network has no room for is dropped.
    fn utter(&mut self, socket: &mut Socket) {
        let Self { content: Maker::Fixed(record), buffer, lane, wake, .. } = self else { return };
        let mut send_one = |socket: &mut Socket| {
            socket.queue(&record.with(buffer.next_txid()));
            lane.tally.add(Count::DeafSent, 1);
        };
        while wake.pop().is_some() {
            if socket.backlog() < MAX_BACKLOG {
                send_one(socket);
            }
        }
        let is_warm_up = matches!(lane.phase.get(), Phase::Run(step) if !lane.plan.steps[step].measured);
        while is_warm_up && socket.backlog() < BURST {
            send_one(socket);
        }
    }
}
