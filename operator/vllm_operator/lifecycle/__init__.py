"""What is seen, decided and told of one server: pure, below the controller that acts."""
