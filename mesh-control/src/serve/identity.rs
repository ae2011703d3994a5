//! Certificate signing for authenticated proxies.

use std::sync::Arc;
use std::time::Duration;

use mesh_core::identity::SpiffeId;
use mesh_core::wire::v1::identity_server::Identity;
use mesh_core::wire::v1::{SignRequest, SignResponse};
use tonic::{Request, Response, Status};

use super::Plane;

/// The signing service.
pub(super) struct Service {
    plane: Arc<Plane>,
}

impl Service {
    pub(super) const fn new(plane: Arc<Plane>) -> Self {
        Self { plane }
    }
}

#[tonic::async_trait]
impl Identity for Service {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let caller = self.plane.authenticate(request.metadata()).await?;
        let request = request.into_inner();
        let view = self.plane.view();
        let identity = SpiffeId::new(view.trust_domain(), &caller.namespace, &caller.service_account)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let workload = view.workload(&caller.namespace, &caller.pod).unwrap_or_default();
        let lifetime =
            (request.lifetime_seconds > 0).then(|| Duration::from_secs(request.lifetime_seconds.into()));
        let standing = self.plane.standing();
        let certificates = standing
            .authority
            .sign(&request.csr, &identity, &workload, lifetime)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        tracing::info!(%identity, pod = caller.pod, "certificate signed");
        let (trust_anchors, signer) = (standing.anchors.clone(), standing.authority.id().to_owned());
        Ok(Response::new(SignResponse { certificates, trust_anchors, signer }))
    }
}
