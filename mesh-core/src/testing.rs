//! A control plane that says what a test wants, for tests of what is below it. Never in a released binary.

mod authority;
mod control;

pub use authority::TestAuthority;
pub use control::FakeControl;
