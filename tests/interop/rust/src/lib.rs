//! What the programs share: telling stories, waiting, asking for a restart.

use std::{env, future::Future, io, pin::Pin, time::Duration};

pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
pub type Story = fn() -> Pin<Box<dyn Future<Output = Outcome>>>;

const PATIENCE: Duration = Duration::from_secs(60);
const STORY_WITHIN: Duration = Duration::from_secs(240);

pub fn url() -> String {
    env::var("AMQP_URL").unwrap_or_default()
}

/// A name that no other run uses.
pub fn named(suffix: &str) -> String {
    format!("{}-{suffix}", env::var("PREFIX").unwrap_or_default())
}

pub fn equal<T: PartialEq + std::fmt::Debug>(actual: T, expected: T, what: &str) -> Outcome {
    if actual == expected {
        return Ok(());
    }
    Err(format!("{what}: {actual:?} instead of {expected:?}").into())
}

pub async fn within<T>(future: impl Future<Output = T>, what: &str) -> Outcome<T> {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.map_err(|_| format!("{what}: not within {PATIENCE:?}").into())
}

/// Asks the test to restart the broker, and waits until it is there again.
pub async fn restart_broker() -> Outcome {
    println!("restart");
    let read = || io::stdin().read_line(&mut String::new());
    tokio::task::spawn_blocking(read).await??;
    Ok(())
}

/// Runs the stories that the command line names.
pub async fn tell(stories: &[(&str, Story)]) {
    for name in env::args().skip(1) {
        let story = stories.iter().find(|(known, _)| *known == name);
        let told = match story {
            None => Err("there is no such story".into()),
            Some((_, run)) => match tokio::time::timeout(STORY_WITHIN, run()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("not within {STORY_WITHIN:?}").into()),
            },
        };
        match told {
            Ok(()) => println!("ok {name}"),
            Err(why) => println!("failed {name}: {why}"),
        }
    }
}
