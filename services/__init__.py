"""The four services. They meet in RabbitMQ only: none imports another, none reads another's schema."""
