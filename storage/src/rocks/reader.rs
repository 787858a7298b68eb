//! Threads that read, so that a cold read blocks neither the caller nor the writer.

use std::{
    io,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
};

use futures_channel::oneshot;
use trivium_core::store::{BoxFuture, StoreError};

use super::Database;

/// Two: one cold scan does not delay every other read, and more would only compete for the disk.
const THREADS: usize = 2;

enum Job {
    Read(Box<dyn FnOnce(&Database) + Send>),
    /// Ends the thread that takes it.
    Stop,
}

/// The way to the threads that read.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    /// Bounded by its users: each waits for what it asked, and asks for a page at a time.
    jobs: Sender<Job>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Readers {
    pub(super) fn start(database: &Arc<Database>) -> io::Result<Readers> {
        let (jobs, todo) = mpsc::channel();
        let todo = Arc::new(Mutex::new(todo));
        let threads = (0..THREADS).map(|n| {
            let (database, todo) = (database.clone(), todo.clone());
            thread::Builder::new()
                .name(format!("store-read-{n}"))
                .spawn(move || run(&database, &todo))
        });
        let threads = Arc::new(Mutex::new(threads.collect::<io::Result<_>>()?));
        Ok(Readers { jobs, threads })
    }

    /// Has a thread read; [`StoreError::Closed`] once the threads have stopped.
    pub(super) fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (done, result) = oneshot::channel();
        let job = Job::Read(Box::new(move |database| {
            let _ = done.send(read(database));
        }));
        let _ = self.jobs.send(job);
        Box::pin(async move { result.await.unwrap_or(Err(StoreError::Closed)) })
    }

    /// Lets the threads finish what they were asked and waits for their end.
    pub(super) fn stop(&self) {
        for _ in 0..THREADS {
            let _ = self.jobs.send(Job::Stop);
        }
        let threads = std::mem::take(
            &mut *self
                .threads
                .lock()
                .expect("no code panics while it holds the threads"),
        );
        for thread in threads {
            let _ = thread.join();
        }
    }
}

fn run(database: &Database, todo: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting for a job, never while doing one.
        let job = todo
            .lock()
            .expect("waiting for a job does not panic")
            .recv();
        match job {
            Ok(Job::Read(read)) => read(database),
            Ok(Job::Stop) | Err(_) => return,
        }
    }
}
