//! What readers of a book say: a plain HTTP server with one thread for each connection.
//!
//! Three versions of it run side by side: `v1` has no ratings, `v2` asks the ratings service and shows black stars, `v3`
//! red ones. Environment: `REVIEWS_VERSION`, `RATINGS_URL` (for example `http://ratings:9080`), `PORT` (9080).

#![forbid(unsafe_code)]

mod ratings;

use serde_json::{Value, json};
use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    net::{Ipv6Addr, TcpListener, TcpStream},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// More than any honest request line or header has.
const LONGEST_LINE: u64 = 8192;

/// What tells the three versions apart.
struct Shop {
    version: String,
    /// The colour of the stars and where they come from; `None` shows none.
    stars: Option<(&'static str, String)>,
}

fn main() -> ExitCode {
    let setting = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let version = setting("REVIEWS_VERSION", "v1");
    let ratings = setting("RATINGS_URL", "http://ratings:9080");
    let stars = match version.as_str() {
        "v1" => None,
        "v2" => Some(("black", ratings)),
        "v3" => Some(("crimson", ratings)),
        other => {
            eprintln!("REVIEWS_VERSION is v1, v2 or v3, not {other:?}");
            return ExitCode::from(2);
        }
    };
    let Ok(port) = setting("PORT", "9080").parse() else {
        eprintln!("PORT is not a port number");
        return ExitCode::from(2);
    };
    match serve(port, Arc::new(Shop { version, stars })) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(port: u16, shop: Arc<Shop>) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
    loop {
        let (stream, peer) = listener.accept()?;
        let shop = Arc::clone(&shop);
        std::thread::spawn(move || {
            let peer = peer.ip().to_canonical();
            match answer(stream, &shop) {
                Ok((request, status)) => eprintln!("{peer} \"{request}\" {status}"),
                Err(error) => eprintln!("{peer} {error}"),
            }
        });
    }
}

/// Answers the one request of a connection, and returns its first line and the status for the log.
fn answer(stream: TcpStream, shop: &Shop) -> io::Result<(String, u16)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(&stream);
    let request = line(&mut reader)?;
    while !line(&mut reader)?.is_empty() {}
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, value) = match path.trim_matches('/').split_once('/') {
        Some(("reviews", number)) => match number.parse() {
            Ok(number) => (200, reviews(number, shop)),
            Err(_) => (400, json!({ "error": "a book has a number" })),
        },
        None if path == "/health" => (200, json!({ "status": "ok" })),
        _ => (404, json!({ "error": "no such page" })),
    };
    let body = format!("{value}\n");
    let reason = if status == 200 { "OK" } else { "Error" };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    (&stream).write_all((head + &body).as_bytes())?;
    Ok((request, status))
}

/// A line without its end; what is too long or ends early is an error.
fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    io::Read::take(reader, LONGEST_LINE).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(whole) => Ok(whole.trim_end_matches('\r').to_owned()),
        None => Err(io::Error::other(
            "a request that ends early or has a line that is too long",
        )),
    }
}

fn reviews(book: u32, shop: &Shop) -> Value {
    let mut reviews = vec![
        json!({ "reviewer": "Ottilie", "text": "I began it in the bath and ended it in cold water. Could not stop." }),
        json!({ "reviewer": "Bram", "text": "Sound on drainage, thin on love. The index is a delight." }),
    ];
    if let Some((color, url)) = &shop.stars {
        let ratings = ratings::of(url, book);
        for review in &mut reviews {
            let reviewer = review["reviewer"].as_str().unwrap_or_default();
            review["rating"] = match &ratings {
                Ok(ratings) => json!({ "stars": ratings["ratings"][reviewer], "color": color }),
                Err(error) => json!({ "error": error.to_string() }),
            };
        }
    }
    json!({ "id": book, "version": shop.version, "reviews": reviews })
}
