"""Tell how a clone in service meets a shop that changes: seen, stepped back, learnt anew, taken over again."""
