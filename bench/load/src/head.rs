//! The head of a response.

use anyhow::{Context, Result, bail};
use httparse::{EMPTY_HEADER, Response, Status};
use memchr::memmem;

use crate::body::Framing;

/// The largest head, in bytes.
const LARGEST: usize = 64 * 1024;

/// What the head of a response says.
#[derive(Debug)]
pub struct Head {
    /// The status: 200 for a stream.
    pub status: u16,
    /// Whether it says that it is an event stream.
    pub is_stream: bool,
    /// How its body is framed.
    pub framing: Framing,
}

/// Adds bytes to those of a head that have come already. Once it is whole: the head, and how many of the new bytes are
/// part of it. Fails for what is no HTTP, and for a head of more than 64 KiB.
pub fn feed(so_far: &mut Vec<u8>, bytes: &[u8]) -> Result<Option<(Head, usize)>> {
    let before = so_far.len();
    so_far.extend_from_slice(bytes);
    let Some(end) = memmem::find(so_far, b"\r\n\r\n").map(|at| at + 4) else {
        if so_far.len() > LARGEST {
            bail!("the head of the response is too large");
        }
        return Ok(None);
    };
    let mut headers = [EMPTY_HEADER; 64];
    let mut response = Response::new(&mut headers);
    let Status::Complete(_) = response
        .parse(&so_far[..end])
        .context("the head of the response is no HTTP")?
    else {
        bail!("the head of the response is not whole");
    };
    let header = |name: &str| {
        let of_name = |header: &&httparse::Header| header.name.eq_ignore_ascii_case(name);
        let header = response.headers.iter().find(of_name)?;
        std::str::from_utf8(header.value).ok().map(str::trim)
    };
    let framing = match (header("transfer-encoding"), header("content-length")) {
        (Some(encoding), _) if encoding.eq_ignore_ascii_case("chunked") => Framing::chunked(),
        (Some(encoding), _) => bail!("the transfer encoding {encoding} is not supported"),
        (None, Some(length)) => Framing::length(length.parse().context("a wrong content-length")?),
        (None, None) => Framing::until_the_end(),
    };
    let head = Head {
        status: response.code.unwrap_or_default(),
        is_stream: header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")),
        framing,
    };
    *so_far = Vec::new();
    Ok(Some((head, end - before)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
        Transfer-Encoding: chunked\r\n\r\nbody";

    #[test]
    fn a_head_may_come_in_two_parts() {
        for split in 0..HEAD.len() - 4 {
            let mut so_far = Vec::new();
            assert!(feed(&mut so_far, &HEAD[..split]).unwrap().is_none());
            let (head, taken) = feed(&mut so_far, &HEAD[split..]).unwrap().unwrap();
            assert_eq!(&HEAD[split + taken..], b"body");
            assert_eq!((head.status, head.is_stream), (200, true));
            assert_eq!(head.framing, Framing::chunked());
            assert_eq!(so_far.capacity(), 0);
        }
    }

    #[test]
    fn bodies_are_framed_in_three_ways() {
        let framing = |headers: &str| {
            let text = format!("HTTP/1.1 503 Busy\r\n{headers}\r\n");
            feed(&mut Vec::new(), text.as_bytes()).map(|head| head.unwrap().0.framing)
        };
        assert_eq!(
            framing("content-length: 12\r\n").unwrap(),
            Framing::length(12)
        );
        assert_eq!(framing("").unwrap(), Framing::until_the_end());
        assert!(framing("transfer-encoding: gzip\r\n").is_err());
        assert!(framing("content-length: many\r\n").is_err());
    }

    #[test]
    fn what_is_no_http_is_refused() {
        assert!(feed(&mut Vec::new(), b"SSH-2.0-hello\r\n\r\n").is_err());
        assert!(feed(&mut Vec::new(), &[b'a'; LARGEST + 1]).is_err());
    }
}
