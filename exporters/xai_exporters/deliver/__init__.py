"""Everything that is written beside a bundle: OpenVINO IR, model repositories of servers, a web page."""
