# What runs in test pods, built by `cargo xtask cluster build`.
FROM scratch
COPY agnhost /agnhost
ENTRYPOINT ["/agnhost"]
CMD ["pause"]
