"""What lies beside a bundle: OpenVINO IR, model repositories of servers, a web page."""
