"""moto 5.2.5 with the behaviour of real AWS where moto lies about Network Load Balancers."""
