//! Listens at services' addresses and carries connections to the pods behind: see `forwarder.rs` in the library.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufRead, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// How long a pod may take to accept.
const PATIENCE: Duration = Duration::from_secs(5);

type Table = BTreeMap<SocketAddr, Vec<SocketAddr>>;

fn main() -> io::Result<()> {
    let table = Arc::new(Mutex::new(Table::new()));
    let mut listening: HashMap<SocketAddr, thread::JoinHandle<()>> = HashMap::new();
    for line in io::stdin().lock().lines() {
        let new: Table = serde_json::from_str(&line?).map_err(io::Error::other)?;
        for address in new.keys() {
            if !listening.contains_key(address) {
                let listener = TcpListener::bind(address)?;
                let table = Arc::clone(&table);
                let address = *address;
                listening.insert(address, thread::spawn(move || serve(&listener, address, &table)));
            }
        }
        *table.lock().unwrap_or_else(PoisonError::into_inner) = new;
        io::stdout().write_all(b"ok\n")?;
    }
    // Nobody will change the table any more, and the services stay.
    for thread in listening.into_values() {
        let _ended = thread.join();
    }
    Ok(())
}

fn serve(listener: &TcpListener, service: SocketAddr, table: &Mutex<Table>) {
    let turn = AtomicUsize::new(0);
    for client in listener.incoming() {
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                eprintln!("{service}: {error}");
                continue;
            }
        };
        let ends = table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&service)
            .cloned()
            .unwrap_or_default();
        let Some(end) = ends
            .get(turn.fetch_add(1, Ordering::Relaxed) % ends.len().max(1))
            .copied()
        else {
            continue;
        };
        thread::spawn(move || {
            if let Err(error) = carry(client, end) {
                eprintln!("{service} to {end}: {error}");
            }
        });
    }
}

/// Carries bytes both ways until both ends have ended their direction.
fn carry(client: TcpStream, end: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect_timeout(&end, PATIENCE)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| one_way(&server, &client));
        one_way(&client, &server);
    });
    Ok(())
}

fn one_way(mut from: &TcpStream, mut to: &TcpStream) {
    // However it ended, the other side must hear of it: an error as a reset would, the end of the stream as such.
    match io::copy(&mut from, &mut to) {
        Ok(_) => {
            let _gone = to.shutdown(Shutdown::Write);
        }
        Err(_) => {
            let _gone = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        }
    }
}
