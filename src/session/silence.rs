//! What a session makes of a peer that says nothing.
//!
//! | the peer | what is done | who ends the connection |
//! |---|---|---|
//! | is quiet | a ping each `limits.ping_interval` | |
//! | is quiet, and has answered a ping before | | this server, after `limits.idle_timeout` |
//! | is quiet, and has never answered one | counted once, kept | TCP, when a ping is not acknowledged |
//! | has begun a message and does not end it | | this server, `limits.idle_timeout` after its first byte |
//! | is not read from, because a bound holds it back | pings, and a look whether it has hung up | whoever finds out first |
//!
//! Nothing public proves that vehicles answer pings; the reference server never sends any. So silence alone says
//! nothing about a peer that has never answered one.

use std::time::Duration;

use tokio::time::Instant;

use crate::config;

/// Of one connection.
#[derive(Debug)]
pub(super) struct Silence {
    /// When something came last, or reading went on.
    since: Instant,
    /// When the message began of which only a part has come: it takes memory, so it is not waited for as a quiet peer is.
    message_since: Option<Instant>,
    /// Since when a bound has kept the session from reading, without a break.
    held_since: Option<Instant>,
    last_ping: Option<Instant>,
    answers_pings: bool,
    /// It has been silent for `limits.idle_timeout`, and that was counted.
    noted: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// Send a ping.
    Ping,
    /// Count a connection that is silent and stays. It may still need a ping.
    Note,
    /// Close the connection.
    Close,
}

/// A vehicle that has lost its connection needs at least so long for a new one. Until then there is no newer record
/// that what it sent before could get behind.
const RECONNECT: Duration = Duration::from_secs(1);
/// How often a peer that is held back is looked at, at most and at least.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, message_since: None, held_since: None, last_ping: None, answers_pings: false, noted: false }
    }

    /// A frame has come.
    pub(super) fn heard(&mut self, now: Instant) {
        self.since = now;
        self.noted = false;
    }

    /// Whether only a part of a message is there, after a read.
    pub(super) fn has_read(&mut self, now: Instant, is_unfinished: bool) {
        self.message_since = if is_unfinished { self.message_since.or(Some(now)) } else { None };
    }

    /// A pong has come.
    pub(super) fn pong(&mut self) {
        self.answers_pings |= self.last_ping.is_some();
    }

    /// A bound keeps the session from reading.
    pub(super) fn hold(&mut self, now: Instant) {
        self.held_since.get_or_insert(now);
    }

    /// Nothing holds the session back any more.
    pub(super) fn release(&mut self, now: Instant) {
        if self.held_since.take().is_some() {
            self.heard(now);
            self.message_since = self.message_since.map(|_| now);
        }
    }

    /// The session is held back, and has been for so long that the peer may have another connection by now, should it
    /// have left this one.
    pub(super) fn is_held_long(&self, now: Instant) -> bool {
        self.held_since.is_some_and(|since| now >= since + RECONNECT)
    }

    /// What there is to do at `now`; asked until it is [`Step::Wait`].
    pub(super) fn step(&mut self, now: Instant, limits: &config::Session) -> Step {
        let is_late = |since| self.held_since.is_none() && now >= since + limits.idle_timeout;
        if self.message_since.is_some_and(is_late) {
            return Step::Close;
        }
        if !self.noted && is_late(self.since) {
            if self.answers_pings {
                return Step::Close;
            }
            self.noted = true;
            return Step::Note;
        }
        if now >= self.ping_at(limits) {
            self.last_ping = Some(now);
            return Step::Ping;
        }
        Step::Wait
    }

    /// When to ask again.
    pub(super) fn due(&self, now: Instant, limits: &config::Session) -> Instant {
        if self.held_since.is_some() {
            return now + (limits.idle_timeout / 8).clamp(LOOK.0, LOOK.1);
        }
        let ping_at = self.ping_at(limits);
        let quiet_until = (!self.noted).then_some(self.since);
        let late = [quiet_until, self.message_since].into_iter().flatten().map(|since| since + limits.idle_timeout);
        late.fold(ping_at, Instant::min)
    }

    fn ping_at(&self, limits: &config::Session) -> Instant {
        // Two of them within the idle timeout: the first makes a dead peer's system say so, the second finds out.
        let interval = if self.held_since.is_some() {
            limits.ping_interval.min(limits.idle_timeout / 4)
        } else {
            limits.ping_interval
        };
        let quiet_since = self.held_since.unwrap_or(self.since);
        self.last_ping.map_or(quiet_since, |ping| ping.max(quiet_since)) + interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::limits;

    const SECOND: Duration = Duration::from_secs(1);

    /// Steps of a silent peer until `until` seconds have passed, with the second at which each comes.
    fn steps(silence: &mut Silence, from: Instant, until: u64, answers: bool) -> Vec<(u64, Step)> {
        let limits = limits(|limits| (limits.ping_interval, limits.idle_timeout) = (10 * SECOND, 25 * SECOND));
        let mut steps = Vec::new();
        let mut now = from;
        while now <= from + Duration::from_secs(until) {
            match silence.step(now, &limits) {
                Step::Wait => now = silence.due(now, &limits),
                step => {
                    steps.push(((now - from).as_secs(), step));
                    if step == Step::Ping && answers {
                        silence.heard(now);
                        silence.pong();
                    }
                    if step == Step::Close {
                        break;
                    }
                }
            }
        }
        steps
    }

    #[test]
    fn a_peer_that_never_answered_a_ping_is_counted_once_and_kept() {
        let now = Instant::now();
        let steps = steps(&mut Silence::new(now), now, 60, false);
        let ping = |at| (at, Step::Ping);
        assert_eq!(steps, [ping(10), ping(20), (25, Step::Note), ping(30), ping(40), ping(50), ping(60)]);
    }

    #[test]
    fn a_peer_that_answered_once_is_closed_when_it_says_nothing_more() {
        let now = Instant::now();
        let mut silence = Silence::new(now);
        assert_eq!(steps(&mut silence, now, 100, true).len(), 10, "it lives as long as it answers");
        let later = now + 100 * SECOND;
        assert_eq!(steps(&mut silence, later, 60, false), [(10, Step::Ping), (20, Step::Ping), (25, Step::Close)]);
    }

    #[test]
    fn a_message_that_does_not_end_is_not_waited_for_whatever_comes_meanwhile() {
        let now = Instant::now();
        let mut silence = Silence::new(now);
        silence.has_read(now, true);
        assert!(steps(&mut silence, now, 60, false).contains(&(25, Step::Close)), "also of one that never answers");
        let mut silence = Silence::new(now);
        silence.has_read(now, true);
        silence.has_read(now + 20 * SECOND, true);
        assert!(steps(&mut silence, now, 60, true).contains(&(25, Step::Close)), "also of one that answers");
        silence.has_read(now + 24 * SECOND, false);
        assert!(!steps(&mut silence, now + 24 * SECOND, 60, true).iter().any(|(_, step)| *step == Step::Close));
    }

    #[test]
    fn a_pong_that_nobody_asked_for_proves_nothing() {
        let now = Instant::now();
        let mut silence = Silence::new(now);
        silence.pong();
        assert!(steps(&mut silence, now, 60, false).contains(&(25, Step::Note)));
    }

    #[test]
    fn a_peer_that_is_held_back_is_pinged_and_never_blamed_for_its_silence() {
        let now = Instant::now();
        let mut silence = Silence::new(now);
        silence.last_ping = Some(now);
        silence.pong();
        silence.hold(now);
        let found = steps(&mut silence, now, 60, false);
        assert!(found.len() >= 8 && found.iter().all(|(_, step)| *step == Step::Ping), "{found:?}");
        assert!(found[1].0 <= 14, "two pings within the idle timeout: {found:?}");
        assert!(silence.is_held_long(now + 60 * SECOND), "it may have reconnected");
        silence.release(now + 60 * SECOND);
        assert_eq!(silence.due(now + 60 * SECOND, &limits(|_| {})), now + 60 * SECOND + limits(|_| {}).ping_interval);
    }

    #[test]
    fn a_moment_of_holding_back_is_no_reason_to_look_for_another_connection() {
        let now = Instant::now();
        let mut silence = Silence::new(now);
        silence.hold(now);
        silence.hold(now + SECOND / 2);
        assert!(!silence.is_held_long(now + SECOND / 2));
        silence.release(now + SECOND / 2);
        assert!(!silence.is_held_long(now + 9 * SECOND), "it is not held any more");
    }
}
