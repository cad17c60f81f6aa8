"""What `--help` shows below the options of each command: examples, and what is written where."""

EXPLAIN = """\
examples:
  xai-explain resnet50.xai photo.jpg                                  why the class that is predicted
  xai-explain resnet50.xai photo.jpg -t "tabby cat" -t "not tabby cat"  what speaks for a class, and what against it
  xai-explain resnet50.xai photo.jpg -t "tabby cat vs tiger cat"      why the one rather than the other
  xai-explain resnet50.xai photos/ -m fast -o explained               all fast methods side by side
  xai-explain model.onnx photo.jpg --preprocess imagenet -m lrp       a model file, exported first
  xai-explain resnet50.xai photos/ -m reciprocam:score=probability,score-cam -t top2 -b openvino

written to OUT:
  contact-sheet.png             all maps at a glance; further pages as contact-sheet-2.png, ...
  IMAGE--METHOD--CLASS.png      the map over the photo
  IMAGE--METHOD--CLASS.npy      its raw values, for numpy.load
  results.json                  predictions, targets, options, files, versions
"""

EVALUATE = """\
examples:
  xai-evaluate resnet50.xai val/                                      all fast methods, the usual metrics
  xai-evaluate resnet50.xai val/ --limit 200 -m grad-cam,reciprocam   two methods, 200 images drawn at random
  xai-evaluate resnet50.xai val/ --boxes instances.json               with pointing game and IoU
  xai-evaluate float32.xai int8.xai val/ -b onnxruntime,openvino      two bundles on two runtimes, compared
  xai-evaluate resnet50.xai val/ -m rise:masks=2000 --metrics insertion,deletion:steps=50 -o scores
  xai-evaluate resnet50.xai val/ --threads 2 -o scores --shard 3/8    a part; then: xai-evaluate merge scores

written to OUT:
  report.html                   what was found, with figures, and the best and worst maps
  results.json                  the figures
  images.csv, images.parquet    a row per image and method; curves.csv: the curves of insertion and deletion
  journal.jsonl                 what is done so far: the same command continues an interrupted evaluation
"""

MERGE = """\
examples:
  xai-evaluate merge scores                                           all shards wrote to scores/
  xai-evaluate merge machine1 machine2 -o scores                      shards from several folders
"""

CHECK = """\
examples:
  xai-check float32.xai int8.xai photos/                              do both look at the same places?
  xai-check float32.xai int8.xai photos/ --report check.html          with a page of the images that moved most
  xai-check --record reference.npz float32.xai photos/                on the training side: record the answers
  xai-check reference.npz int8.xai photos/                            on the device, where only int8.xai runs
  xai-check float32.xai int8.xai photos/ --min-correlation 0.9 --json check.json || echo "do not deploy"

exit status: 0 they agree, 1 they do not, 2 the check could not be made.
written: nothing but a table on standard output, and the files that --record, --report and --json name.
"""

BENCH = """\
examples:
  xai-bench resnet50.xai                                              all fast methods beside plain inference
  xai-bench resnet50.xai -m reciprocam,grad-cam --batch 1,4           two methods, two batch sizes
  xai-bench resnet50.xai -b onnxruntime,openvino --threads 4          two runtimes
  xai-bench layer3.xai layer4.xai -m layer-cam --targets 1,5          two cuts, one and five classes at a time
  xai-bench resnet50.xai --json costs.json --plot costs.png

written: nothing but a table on standard output, and the files that --json and --plot name.
"""

SERVE = """\
examples:
  xai-serve resnet50.xai                                              served as resnet50 at http://127.0.0.1:8080
  xai-serve cats=resnet50.xai int8=int8.xai --port 8000 --grpc-port 8001
  xai-serve resnet50.xai -m grad-cam,lrp,rise:masks=500 --timeout 60  the methods that requests may name
  xai-serve resnet50.xai --host 0.0.0.0 --drain 10 --max-requests 200  in a container, behind a load balancer
  xai-serve resnet50.xai --watch 5                                    a new bundle at the same place is served at once
  curl --data-binary @photo.jpg 'localhost:8080/v1/models/resnet50:explain?method=grad-cam&target=cat'

written: nothing. SIGTERM: stop after the last answer. SIGHUP: open the bundles again.
"""

RECORDS = """\
examples:
  xai-explain resnet50.xai photos/ --records records                  keep a record of each explanation
  xai-records verify records                                          are they as they were written?
  xai-records verify records --json heads.json                        keep heads.json elsewhere ...
  xai-records verify records --heads heads.json                       ... and find what was cut off or rewritten since
  xai-records show records ID -o map.png                              one record, with its map as a picture
  xai-records export records records.parquet                          a row for each, for a data frame

exit status: 0 they are, 1 a record was changed, dropped, moved or cut off, 2 it could not be found out.
written: nothing but text on standard output, and the files that are named.
"""

MONITOR = """\
examples:
  xai-explain resnet50.xai val/ --records reference                   on the day of the deployment
  xai-monitor records --reference reference                           windows of 100 records
  xai-monitor records --reference reference --window 1d --report drift.html
  xai-monitor records --reference reference.npz                       a recording of xai-check --record
  xai-monitor records --reference reference --window 1h --last 1 --prometheus drift.prom
  xai-monitor records --reference reference --json drift.json || echo "look at drift.json"

exit status: 0 no window raises an alarm, 1 one does, 2 it could not be found out.
written: nothing but lines on standard output, and the files that --json, --report and --prometheus name.
"""
