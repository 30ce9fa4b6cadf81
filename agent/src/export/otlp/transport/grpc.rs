//! OTLP over gRPC. Messages come as bytes, so that one client serves every signal.

use bytes::{Buf, BufMut, Bytes};
use http::Uri;
use http::uri::PathAndQuery;
use tonic::Status;
use tonic::client::Grpc as Client;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use super::super::outcome::{Answer, Outcome};
use super::{ANSWER_BYTES, USER_AGENT};
use crate::config::{Compression, Otlp};
use crate::export::OutputError;
use crate::telemetry::Signal;

#[derive(Debug)]
pub(super) struct Grpc {
    client: Client<Channel>,
    metadata: MetadataMap,
    method: PathAndQuery,
}

impl Grpc {
    pub(super) fn new<C>(otlp: &Otlp, signal: Signal, connector: C) -> Result<Self, OutputError>
    where
        C: tower_service::Service<Uri> + Send + 'static,
        C::Response: hyper::rt::Read + hyper::rt::Write + Send + Unpin,
        C::Future: Send,
        C::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
        Box<dyn std::error::Error + Send + Sync>: From<C::Error>,
    {
        let endpoint = Endpoint::from(otlp.endpoint.uri().clone())
            .user_agent(USER_AGENT)
            .map_err(|error| OutputError::Otlp(error.to_string()))?
            .connect_timeout(otlp.timeout);
        let mut client = Client::new(endpoint.connect_with_connector_lazy(connector))
            .max_decoding_message_size(ANSWER_BYTES)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        client = match otlp.compression {
            Compression::None => client,
            Compression::Gzip => client.send_compressed(CompressionEncoding::Gzip),
            Compression::Zstd => client.send_compressed(CompressionEncoding::Zstd),
        };
        let metadata = MetadataMap::from_headers(otlp.headers.iter().cloned().collect());
        let method = PathAndQuery::from_static(match signal {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        });
        Ok(Self { client, metadata, method })
    }

    pub(super) async fn send(&self, body: Bytes) -> Outcome {
        let mut request = tonic::Request::new(body);
        *request.metadata_mut() = self.metadata.clone();
        // A clone is a handle on the same connection.
        let mut client = self.client.clone();
        if let Err(error) = client.ready().await {
            return Outcome::of_grpc(&Status::from_error(error.into()));
        }
        match client.unary(request, self.method.clone(), Raw).await {
            Ok(response) => Outcome::Accepted(Answer::read(false, response.get_ref())),
            Err(status) => Outcome::of_grpc(&status),
        }
    }
}

/// Messages as the bytes that they are.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
