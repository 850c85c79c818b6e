//! Pages that act on the process: on loopback alone.

use http::StatusCode;
use rustix::process::{Signal, getpid, kill_process};

use crate::{
    logs::Logging,
    routes::{Request, Response, Routes},
};

impl Routes {
    /// Adds `/logging`, which shows the log filter, and `POST /logging?level=debug`, which changes it.
    #[must_use]
    pub fn logging(self, logging: Logging) -> Self {
        let shown = logging.clone();
        self.get_local("/logging", move |_| Response::text(format!("{}\n", shown.filter())))
            .post_local("/logging", 0, move |request| {
                let answer = set_filter(&logging, &request);
                async { answer }
            })
    }

    /// Adds `POST /quitquitquit`, which does what SIGTERM does.
    #[must_use]
    pub fn quit(self) -> Self {
        self.post_local("/quitquitquit", 0, |_| async {
            tracing::info!("asked to quit");
            match kill_process(getpid(), Signal::TERM) {
                Ok(()) => Response::text("the process ends as by SIGTERM\n"),
                Err(error) => Response::status(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            }
        })
    }
}

fn set_filter(logging: &Logging, request: &Request) -> Response {
    let Some(level) = request.parameter("level") else {
        return Response::status(StatusCode::BAD_REQUEST, "say what to log: ?level=debug\n");
    };
    match logging.set_filter(&level) {
        Ok(()) => {
            tracing::info!(filter = logging.filter(), "the log filter has changed");
            Response::text(format!("{}\n", logging.filter()))
        }
        Err(error) => Response::status(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}
