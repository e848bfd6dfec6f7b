//! The output against a scripted server.
