//! Publishes that went to several places, and how many of those have still to be done with them.

use rustc_hash::FxHashMap;

use crate::{id::Token, rare::Rare};

/// Counts down the destinations of publishes; those with one destination are never in here.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    left: Rare<FxHashMap<Token, Waiting>>,
}

/// A publish that is not done with everywhere.
#[derive(Debug)]
struct Waiting {
    left: u32,
    /// One place has refused it, which is the answer for all.
    refused: bool,
}

impl Confirms {
    /// A publish went to `destinations` places, each of which will confirm.
    pub(crate) fn expect(&mut self, token: Token, destinations: u32) {
        if destinations > 1 {
            let waiting = Waiting {
                left: destinations,
                refused: false,
            };
            self.left.make().insert(token, waiting);
        }
    }

    /// Keeps of `tokens` those that are now done with everywhere and were not refused anywhere.
    pub(crate) fn confirmed(&mut self, tokens: &mut Vec<Token>) {
        if self.left.get().is_some_and(|left| !left.is_empty()) {
            tokens.retain(|token| self.answered(*token, false));
        }
    }

    /// Keeps of `tokens` those that have not been refused already.
    pub(crate) fn refused(&mut self, tokens: &mut Vec<Token>) {
        if self.left.get().is_some_and(|left| !left.is_empty()) {
            tokens.retain(|token| self.answered(*token, true));
        }
    }

    /// One place has answered; true if that is the answer of all.
    fn answered(&mut self, token: Token, refused: bool) -> bool {
        let Some(left) = self.left.get_mut() else {
            return true;
        };
        let Some(waiting) = left.get_mut(&token) else {
            return true;
        };
        waiting.left -= 1;
        let (last, was_refused) = (waiting.left == 0, waiting.refused);
        waiting.refused |= refused;
        if last {
            left.remove(&token);
        }
        !was_refused && (refused || last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_is_the_answer_for_all() {
        let mut confirms = Confirms::default();
        confirms.expect(Token(1), 3);
        let mut answer = |refused| {
            let mut tokens = vec![Token(1)];
            if refused {
                confirms.refused(&mut tokens);
            } else {
                confirms.confirmed(&mut tokens);
            }
            !tokens.is_empty()
        };
        assert!(!answer(false));
        assert!(answer(true));
        assert!(!answer(false));
    }
}
