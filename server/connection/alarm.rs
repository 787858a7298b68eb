//! One timer of a connection, cheap to put off.
//!
//! Deadlines move with every turn (a keep-alive is restarted by each packet), so the timer is only ever
//! set earlier; when it goes off before the deadline it is set again. A busy connection so touches the
//! timer wheel about once per keep-alive and not once per turn.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::time::{Sleep, sleep_until};

#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready once `deadline` has passed; never without one.
    pub(super) fn poll(
        &mut self,
        deadline: Option<Instant>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else {
            // An idle connection without a keep alive needs no timer.
            self.sleep = None;
            return Poll::Pending;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.is_elapsed() || sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.deadline() < deadline {
            ready!(sleep.as_mut().poll(context));
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test]
    async fn goes_off_at_the_deadline_wherever_it_moved() {
        let mut alarm = Alarm::default();
        let start = tokio::time::Instant::now().into_std();
        let at = |ms| Some(start + Duration::from_millis(ms));
        poll_fn(|context| {
            assert!(alarm.poll(None, context).is_pending());
            assert!(alarm.poll(at(60_000), context).is_pending());
            assert!(alarm.poll(at(10), context).is_pending());
            assert!(alarm.poll(at(30), context).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|context| alarm.poll(at(30), context)).await;
        assert!(tokio::time::Instant::now().into_std() >= start + Duration::from_millis(30));
        poll_fn(|context| alarm.poll(at(0), context)).await;
    }
}
