//! Publishes that went to several places, and how many of those have still to be done with them.

use rustc_hash::FxHashMap;

use crate::id::Token;

/// Counts down the destinations of publishes; those with one destination are never in here.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    left: FxHashMap<Token, u32>,
}

impl Confirms {
    /// A publish went to `destinations` places, each of which will confirm.
    pub(crate) fn expect(&mut self, token: Token, destinations: u32) {
        if destinations > 1 {
            self.left.insert(token, destinations);
        }
    }

    /// Keeps of `tokens` those that are now done with everywhere.
    pub(crate) fn confirmed(&mut self, tokens: &mut Vec<Token>) {
        if !self.left.is_empty() {
            tokens.retain(|token| self.is_last(*token));
        }
    }

    /// Keeps of `tokens` those that have not been refused already; one refusal is an answer for all.
    pub(crate) fn refused(&mut self, tokens: &mut Vec<Token>) {
        if !self.left.is_empty() {
            tokens.retain(|token| self.is_last(*token));
        }
    }

    fn is_last(&mut self, token: Token) -> bool {
        let Some(left) = self.left.get_mut(&token) else {
            return true;
        };
        *left -= 1;
        let last = *left == 0;
        if last {
            self.left.remove(&token);
        }
        last
    }
}
