//! Rules that devices in the field break: what is done, and the log line, once per connection and rule.

use tracing::info;
use trivium_core::Text;

use crate::{options::OnBreach, packet::Violation};

/// A rule of [`Strict`](crate::Strict).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    ReceiveMaximum,
    Resend,
}

/// Which rules one connection has broken so far.
#[derive(Debug, Default)]
pub struct Breaches(u8);

impl Breaches {
    /// Ends the connection with `violation`, or logs it when it is the first of its kind.
    pub fn note(
        &mut self,
        rule: Rule,
        then: OnBreach,
        client: &Text,
        violation: Violation,
    ) -> Result<(), Violation> {
        if then == OnBreach::Disconnect {
            return Err(violation);
        }
        let bit = 1 << rule as u8;
        if self.0 & bit == 0 {
            self.0 |= bit;
            info!(%client, rule = ?rule, "client breaks a rule and is served on: {violation}");
        }
        Ok(())
    }

    /// Whether the rule was broken.
    pub fn any(&self, rule: Rule) -> bool {
        self.0 & 1 << rule as u8 != 0
    }
}
