//! The Admin service: takes requests off the wire and puts answers on it. What they mean is control's.
//!
//! Whatever is asked runs on a task of its own: a caller that goes away ends its watching, never a change that has
//! begun, and a mistake in one request is an error of that request and not of its connection.

use std::future::Future;
use std::sync::Arc;

use flagd_proto::admin::admin_server::{Admin, AdminServer};
use flagd_proto::admin::{
    ChangeRequest, ChangeResponse, ClientsRequest, ClientsResponse, CreateEnvironmentRequest,
    CreateEnvironmentResponse, DiffRequest, DiffResponse, EvaluateRequest, EvaluateResponse, ExportPart,
    ExportRequest, GetRequest, GetResponse, HistoryRequest, HistoryResponse, ListEnvironmentsRequest,
    ListEnvironmentsResponse, ListRequest, ListResponse, StatusRequest, StatusResponse, WaitProgress,
    WaitRequest, WatchEvent, WatchRequest,
};
use futures_util::Stream;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::status::status;
use crate::control::{Control, ControlError};
use crate::limits;

#[cfg(test)]
mod tests;

/// How many answers of a stream wait for a slow reader.
const STREAM_BUFFER: usize = 16;

/// The operators' service on a control.
#[must_use]
pub fn service(control: Arc<Control>) -> AdminServer<AdminService> {
    AdminServer::new(AdminService { control }).max_decoding_message_size(limits::ADMIN_MESSAGE_MAX_BYTES)
}

/// Answers operators.
#[derive(Clone, Debug)]
pub struct AdminService {
    control: Arc<Control>,
}

type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl AdminService {
    /// Runs a request to its end, whatever becomes of the caller.
    async fn run<T, F>(&self, work: impl FnOnce(Arc<Control>) -> F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ControlError>> + Send + 'static,
    {
        let answer = match tokio::spawn(work(Arc::clone(&self.control))).await {
            Ok(answer) => answer,
            Err(error) => Err(ControlError::Internal(error.to_string())),
        };
        answer.map_err(|error| status(&error, self.control.server()))
    }

    async fn answer<T, F>(&self, work: impl FnOnce(Arc<Control>) -> F) -> Result<Response<T>, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ControlError>> + Send + 'static,
    {
        self.run(work).await.map(Response::new)
    }

    /// Answers as they come; behind the last one, what ended them if that was no success.
    fn stream<T: Send + 'static>(
        &self,
        answers: mpsc::Receiver<T>,
        work: impl Future<Output = Result<(), ControlError>> + Send + 'static,
    ) -> Response<Answers<T>> {
        let ended = tokio::spawn(work);
        let server = self.control.server().to_owned();
        let end = stream::once(ended).filter_map(move |ended| {
            let failed = match ended {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Err(status(&error, &server))),
                Err(error) => Some(Err(status(&ControlError::Internal(error.to_string()), &server))),
            };
            std::future::ready(failed)
        });
        Response::new(Box::pin(ReceiverStream::new(answers).map(Ok).chain(end)))
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    type WaitStream = Answers<WaitProgress>;
    type ExportStream = Answers<ExportPart>;
    type WatchStream = Answers<WatchEvent>;

    async fn change(&self, request: Request<ChangeRequest>) -> Result<Response<ChangeResponse>, Status> {
        self.answer(|control| async move { control.change(request.into_inner()).await }).await
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Result<Response<Self::WaitStream>, Status> {
        let waiting = self.run(|control| async move { control.wait(request.into_inner()).await }).await?;
        let (answers, received) = mpsc::channel(STREAM_BUFFER);
        Ok(self.stream(received, async move { waiting.run(&answers).await }))
    }

    async fn list_environments(
        &self,
        _request: Request<ListEnvironmentsRequest>,
    ) -> Result<Response<ListEnvironmentsResponse>, Status> {
        self.answer(|control| async move { control.list_environments().await }).await
    }

    async fn create_environment(
        &self,
        request: Request<CreateEnvironmentRequest>,
    ) -> Result<Response<CreateEnvironmentResponse>, Status> {
        self.answer(|control| async move { control.create_environment(request.into_inner()).await }).await
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.answer(|control| async move { control.status(request.into_inner()).await }).await
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        self.answer(|control| async move { control.list(request.into_inner()).await }).await
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        self.answer(|control| async move { control.get(request.into_inner()).await }).await
    }

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let parts = self.run(|control| async move { control.export(request.into_inner()).await }).await?;
        Ok(Response::new(Box::pin(stream::iter(parts.into_iter().map(Ok)))))
    }

    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        self.answer(|control| async move { control.history(request.into_inner()).await }).await
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Result<Response<DiffResponse>, Status> {
        self.answer(|control| async move { control.diff(request.into_inner()).await }).await
    }

    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        self.answer(|control| async move { control.evaluate(request.into_inner()).await }).await
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let watching = self.run(|control| async move { control.watch(request.into_inner()).await }).await?;
        let (events, received) = mpsc::channel(STREAM_BUFFER);
        Ok(self.stream(received, async move { watching.run(&events).await }))
    }

    async fn clients(&self, request: Request<ClientsRequest>) -> Result<Response<ClientsResponse>, Status> {
        self.answer(|control| async move { control.clients(request.into_inner()).await }).await
    }
}
