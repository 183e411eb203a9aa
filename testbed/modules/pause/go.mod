module jupyterlab-ai-batch.test/testbed/pause

go 1.26.0
