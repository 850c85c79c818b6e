//! Asking the ratings service: a small HTTP client.

use serde_json::Value;
use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// The ratings of a book: an object with `ratings`, which has each reviewer's number of stars.
pub(crate) fn of(url: &str, book: u32) -> io::Result<Value> {
    let authority = url
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'))
        .ok_or_else(|| io::Error::other("RATINGS_URL does not begin with http://"))?;
    let address = authority
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other("ratings has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Version 1.0: the answer ends where the connection ends.
    let request = format!("GET /ratings/{book} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    body(&answer)
}

fn body(answer: &str) -> io::Result<Value> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other("ratings broke off"))?;
    match head.split(' ').nth(1) {
        Some("200") => serde_json::from_str(body).map_err(io::Error::other),
        status => Err(io::Error::other(format!(
            "ratings answered {}",
            status.unwrap_or("nothing")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::body;

    #[test]
    fn reads_an_answer() {
        let answer = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"ratings\":{\"Bram\":3}}";
        assert_eq!(body(answer).unwrap()["ratings"]["Bram"], 3);
    }

    #[test]
    fn says_what_went_wrong() {
        assert_eq!(
            body("HTTP/1.0 503 Busy\r\n\r\n").unwrap_err().to_string(),
            "ratings answered 503"
        );
        assert_eq!(body("HTTP/1.0 200").unwrap_err().to_string(), "ratings broke off");
        assert!(body("HTTP/1.0 200 OK\r\n\r\n{").is_err());
    }
}
