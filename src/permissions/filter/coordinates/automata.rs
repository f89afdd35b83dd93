//! Two ways to run a pattern over a text, neither of which ever looks at a byte twice.
//!
//! A search that asks for one match after another may look ahead from each of them to the end of the text, which
//! makes it quadratic. So where matches start is found out for all of them in one pass from the end of the text,
//! and where one ends in a pass that begins at its start.

use std::ops::ControlFlow;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};

use crate::work;

type Dfa = dense::DFA<Vec<u32>>;

const COMPILES: &str = "the patterns are constants that the tests compile";
const NEVER_QUITS: &str = "no pattern has a look-around beyond ASCII, so no byte makes the automaton quit";

/// Finds all places where a pattern could start.
#[derive(Debug)]
pub(super) struct Starts<const N: usize>([Dfa; N]);

impl<const N: usize> Starts<N> {
    /// Each group of patterns becomes an automaton of its own: all in one would have many times the states.
    pub(super) fn new(groups: [&[String]; N]) -> Self {
        Self(groups.map(|patterns| {
            dense::Builder::new()
                .configure(
                    dense::Config::new().match_kind(MatchKind::All).start_kind(StartKind::Unanchored).accelerate(false),
                )
                .thompson(thompson::Config::new().reverse(true))
                .build(&patterns.join("|"))
                .expect(COMPILES)
        }))
    }

    /// Tells `found` where a match starts, the last place first, until it has enough. Whether it had.
    pub(super) fn each(&self, text: &[u8], mut found: impl FnMut(usize) -> ControlFlow<()>) -> bool {
        let at_end = start::Config::new().anchored(Anchored::No);
        let mut states = self.0.each_ref().map(|dfa| dfa.start_state(&at_end).expect(NEVER_QUITS));
        // An automaton says that it has matched one byte later.
        for (at, byte) in text.iter().enumerate().rev() {
            work::took(N);
            if self.advance(&mut states, |dfa, state| dfa.next_state(state, *byte)) && found(at + 1).is_break() {
                return true;
            }
        }
        self.advance(&mut states, |dfa, state| dfa.next_eoi_state(state)) && found(0).is_break()
    }

    /// Whether any automaton is then in a state that says so.
    #[inline]
    fn advance(&self, states: &mut [StateID; N], next: impl Fn(&Dfa, StateID) -> StateID) -> bool {
        let mut has_matched = false;
        for (dfa, state) in self.0.iter().zip(states) {
            *state = next(dfa, *state);
            has_matched |= dfa.is_match_state(*state);
        }
        has_matched
    }
}

/// Finds where a pattern ends that starts at a given place.
#[derive(Debug)]
pub(super) struct Ends(Dfa);

impl Ends {
    /// Of patterns that start at the same place the first one in the list counts.
    pub(super) fn new(patterns: &[String]) -> Self {
        let dfa = dense::Builder::new()
            .configure(dense::Config::new().start_kind(StartKind::Anchored).accelerate(false))
            .build(&patterns.join("|"))
            .expect(COMPILES);
        Self(dfa)
    }

    /// Where the pattern ends that starts at `start`, if one does.
    pub(super) fn end(&self, text: &[u8], start: usize) -> Option<usize> {
        let before = start.checked_sub(1).map(|at| text[at]);
        let begin = start::Config::new().anchored(Anchored::Yes).look_behind(before);
        let mut state = self.0.start_state(&begin).expect(NEVER_QUITS);
        let mut end = None;
        for (at, byte) in text.iter().enumerate().skip(start) {
            work::took(1);
            state = self.0.next_state(state, *byte);
            if self.0.is_match_state(state) {
                end = Some(at);
            } else if self.0.is_dead_state(state) {
                return end;
            }
        }
        if self.0.is_match_state(self.0.next_eoi_state(state)) { Some(text.len()) } else { end }
    }
}
