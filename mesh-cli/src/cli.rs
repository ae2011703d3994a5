//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mesh_control::cluster::remote::Reach;

/// Run, change, inspect and explain a service mesh.
#[derive(Debug, Parser)]
#[command(name = "mesh", version, about, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 fine, 1 findings, 2 wrong usage, 3 something needed cannot be reached."
)]
pub(crate) struct Cli {
    /// How to print results.
    #[arg(long, short = 'o', global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs; versioned.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole mesh on this machine until Ctrl-C.
    Up(Up),
    /// End a mesh that runs in the background.
    Down(Down),
    /// Add or change objects of a running mesh.
    Apply(Apply),
    /// Remove objects from a running mesh.
    Delete(Delete),
    /// Run a command inside a pod.
    Exec(Exec),
    /// Show what the containers of a pod have written.
    Logs(Logs),
    /// Show pods, services, and what each proxy has acknowledged.
    Status(Status),
    /// Show the configuration a proxy holds.
    Config(Config),
    /// Show problems of files, with the line and the fix, or of the running mesh's objects.
    Lint(Lint),
    /// Show which listener, route, policy and endpoint would take a request, and why.
    Explain(Explain),
    /// Check what becomes of requests, by files of tests; needs no mesh.
    Test(Test),
    /// Print manifests with the proxy that the cluster's webhook would add; needs no cluster.
    Inject(Inject),
    /// Print the manifests of a whole mesh, for `kubectl apply -f -`; or apply them.
    Install(Install),
    /// Print NetworkPolicies that leave the egress gateway as the only way out of namespaces, for `kubectl apply -f -`.
    EgressPolicy(EgressPolicy),
    /// Take an installed mesh out of the cluster, and nothing of anybody else's.
    Uninstall(Cluster),
    /// Look whether a cluster can have the mesh, or whether the one that it has works.
    Check(Check),
    /// Show what of another mesh's objects would behave differently here.
    #[command(subcommand)]
    Migrate(From),
    /// Print a completion script for a shell.
    Completions(Completions),
    /// Enters the namespaces of a mesh.
    #[command(hide = true)]
    Supervise,
    /// Process 1 of a mesh.
    #[command(hide = true)]
    Supervisor,
    /// Process 1 of a pod.
    #[command(hide = true)]
    Pod,
    /// Becomes a container's program.
    #[command(hide = true)]
    Container { descriptor: i32 },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Manifest, or folder of manifests; `-` is standard input.
    #[arg(long = "file", short, required = true, num_args = 1.., value_name = "FILE_OR_DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Return when the mesh is up and leave it running.
    #[arg(long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) mesh: Name,
    /// Port of 127.0.0.1 for the ingress gateway's HTTP; 0 takes any free one.
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    pub(crate) http_port: u16,
    /// Port of 127.0.0.1 for the ingress gateway's HTTPS; 0 takes any free one.
    #[arg(long, default_value_t = 8443, value_name = "PORT")]
    pub(crate) https_port: u16,
    /// Let pods reach this machine, its loopback included, as host.mesh.internal.
    #[arg(long)]
    pub(crate) allow_host: bool,
    /// How pods are kept apart.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) isolation: Isolation,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolation {
    /// Network namespaces with transparent capture.
    #[default]
    Netns,
    /// One loopback, through HTTP_PROXY.
    Loopback,
}

/// Which local mesh.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// Name of the mesh, so that several can run.
    #[arg(long, default_value = "default", env = "MESH_NAME")]
    pub(crate) name: String,
}

/// Which mesh: one of this machine, or a cluster's.
#[derive(Debug, Args)]
pub(crate) struct Where {
    /// Name of a mesh on this machine, so that several can run.
    #[arg(long, env = "MESH_NAME")]
    pub(crate) name: Option<String>,
    /// The mesh in the cluster of the current context, even if one runs on this machine.
    #[arg(long)]
    pub(crate) kubernetes: bool,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
}

/// Which cluster.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// File that says how to reach the cluster; KUBECONFIG and ~/.kube/config when absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context in it; the current one when absent.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

impl Cluster {
    pub(crate) fn reach(&self) -> Reach {
        Reach { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) mesh: Name,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// Manifest, or folder of manifests; `-` is standard input.
    #[arg(long = "file", short, required = true, num_args = 1.., value_name = "FILE_OR_DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Wait until pods are ready and every proxy has acknowledged.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) place: Where,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Manifest, or folder of manifests, whose objects are removed.
    #[arg(long = "file", short, num_args = 1.., value_name = "FILE_OR_DIR", conflicts_with_all = ["kind", "object"])]
    pub(crate) files: Vec<PathBuf>,
    /// Kind of the object to remove.
    #[arg(required_unless_present = "files")]
    pub(crate) kind: Option<String>,
    /// Its name.
    #[arg(required_unless_present = "files", value_name = "NAME")]
    pub(crate) object: Option<String>,
    /// Its namespace; `default`, or that of the cluster's context.
    #[arg(long, short)]
    pub(crate) namespace: Option<String>,
    /// Wait until every proxy has acknowledged.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) place: Where,
}

/// Which pod.
#[derive(Debug, Args)]
pub(crate) struct Pod {
    /// Pod, or the name of its workload, app label or service account.
    pub(crate) workload: String,
    /// Its namespace; `default`, or that of the cluster's context.
    #[arg(long, short)]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) pod: Pod,
    /// Container whose mounts and variables apply, or in which it runs in a cluster; the application's first by default.
    #[arg(long, short)]
    pub(crate) container: Option<String>,
    #[command(flatten)]
    pub(crate) place: Where,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) pod: Pod,
    /// Container, such as `istio-proxy`; all but the proxy by default.
    #[arg(long, short)]
    pub(crate) container: Option<String>,
    /// Go on showing what is written.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Show this many lines per container.
    #[arg(long, default_value_t = 1000, value_name = "LINES")]
    pub(crate) tail: usize,
    #[command(flatten)]
    pub(crate) place: Where,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) place: Where,
}

#[derive(Debug, Args)]
pub(crate) struct Config {
    /// The proxy: a pod, or the name of its workload; `NAME.NAMESPACE` is understood too.
    pub(crate) proxy: String,
    /// Its namespace.
    #[arg(long, short)]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) place: Where,
}

#[derive(Debug, Args)]
#[command(after_help = "Without -f it looks at the objects of the running mesh.")]
pub(crate) struct Lint {
    /// Manifest, or folder of manifests; `-` is standard input.
    #[arg(long = "file", short, num_args = 1.., value_name = "FILE_OR_DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Only problems of this namespace's objects.
    #[arg(long, short)]
    pub(crate) namespace: Option<String>,
    /// Mend in the files what is mechanical, then report what is left.
    #[arg(long, requires = "files")]
    pub(crate) fix: bool,
    /// Show what --fix would do, and change nothing.
    #[arg(long, requires = "files", conflicts_with = "fix")]
    pub(crate) diff: bool,
    #[command(flatten)]
    pub(crate) place: Where,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without -f it asks the running mesh for its objects. With -f nothing needs to run: Deployments and \
                  StatefulSets get pods with made-up addresses. Where weights decide, one draw and all weights are shown."
)]
pub(crate) struct Explain {
    /// The caller's pod or workload; through the ingress gateway when absent.
    #[arg(long, value_name = "NAMESPACE/WORKLOAD")]
    pub(crate) from: Option<String>,
    /// Manifest, or folder of manifests; `-` is standard input. May be repeated.
    #[arg(long = "file", short, value_name = "FILE_OR_DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// A header of the request; `host: NAME` replaces the URL's host.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Where,
    /// The request's method.
    pub(crate) method: String,
    /// The request's URL, as the caller writes it.
    pub(crate) url: String,
    /// More manifests, so that `METHOD URL -f A B` means what it does for other commands.
    #[arg(hide = true, requires = "files")]
    pub(crate) more: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "The format of test files is in docs/mesh-test.md.")]
pub(crate) struct Test {
    /// Files of tests; each may name its manifests itself.
    #[arg(required = true, value_name = "TESTS")]
    pub(crate) tests: Vec<PathBuf>,
    /// Manifest, or folder of manifests, for all of them. May be repeated.
    #[arg(long = "file", short, value_name = "FILE_OR_DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Write the results as JUnit XML too.
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Name the routes and policies that no test reaches.
    #[arg(long)]
    pub(crate) coverage: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Pods are injected unless they, or a Namespace among the files, say otherwise.")]
pub(crate) struct Inject {
    /// Manifest, or `-` for standard input. May be repeated.
    #[arg(long = "file", short, required = true, num_args = 1.., value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The namespace of objects that name none.
    #[arg(long, short, default_value = "default")]
    pub(crate) namespace: String,
    #[command(flatten)]
    pub(crate) settings: mesh_control::admission::Injection,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The settings are those of deploy/charts/mesh/values.yaml; docs/kubernetes.md says what they do."
)]
pub(crate) struct Install {
    /// File of settings, as for Helm. May be repeated; the last one counts.
    #[arg(long = "values", short = 'f', value_name = "FILE")]
    pub(crate) values: Vec<PathBuf>,
    /// A setting, as for Helm: `control.replicas=3`. May be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print the definitions of Istio's kinds instead, for `kubectl create -f -`, which leaves those that exist alone.
    #[arg(long, conflicts_with_all = ["values", "set"])]
    pub(crate) crds: bool,
    /// Apply everything to the cluster that KUBECONFIG names, definitions of Istio's kinds included where they are missing.
    #[arg(long, conflicts_with = "crds")]
    pub(crate) apply: bool,
    /// Wait until everything runs.
    #[arg(long, requires = "apply")]
    pub(crate) wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
}

#[derive(Debug, Args)]
#[command(
    after_help = "They have an effect where the cluster's network plugin enforces NetworkPolicies; docs/egress.md says what they leave open."
)]
pub(crate) struct EgressPolicy {
    /// Whose pods may leave the cluster by the egress gateway only.
    #[arg(required = true, value_name = "NAMESPACE")]
    pub(crate) namespaces: Vec<String>,
    /// Let them reach pods of this namespace, and of no other but their own, instead of every pod of the cluster. May be repeated.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) to: Vec<String>,
    /// Let them reach this network past the gateway, such as the API server: 192.0.2.1/32:6443. May be repeated.
    #[arg(long, value_name = "CIDR[:PORT]")]
    pub(crate) allow: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Look whether the mesh can be installed, and change nothing.
    #[arg(long)]
    pub(crate) before: bool,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
}

/// Whose objects.
#[derive(Debug, Subcommand)]
pub(crate) enum From {
    /// Istio's: those of files, or of the cluster; nothing is changed.
    Istio(Migrate),
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Manifest, or folder of manifests, instead of the cluster's objects; `-` is standard input.
    #[arg(long = "file", short, num_args = 1.., value_name = "FILE_OR_DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Only objects of this namespace.
    #[arg(long, short)]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
