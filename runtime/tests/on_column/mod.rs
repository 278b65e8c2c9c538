//! A column for a test, on the real ring.

use runtime::column::{Body, Column, Plan, start};
use runtime::mesh::Doorbell;
use std::future::Future;
use std::sync::{Arc, Mutex};

const ARENA_BYTES: usize = 160 << 20;

/// Runs a future on a column of its own and gives back what it returns.
pub fn on_column<T, F, Fut>(work: F) -> T
where
    T: Send + 'static,
    F: Fn(Column) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let result = Arc::new(Mutex::new(None));
    let give = result.clone();
    let plan = Plan { cpus: vec![0], arena_bytes: ARENA_BYTES, spin_ns: 0 };
    let bell = Arc::new(Doorbell::new().expect("eventfd"));
    let columns = start(&plan, vec![bell], move |column| {
        let (give, work) = (give.clone(), work.clone());
        async move {
            let value = work(column).await;
            *give.lock().expect("only writer") = Some(value);
            Ok(Box::pin(async {}) as Body)
        }
    });
    columns.expect("the column starts").join();
    result.lock().expect("the column has ended").take().expect("a result")
}
